"""DINO R18 with 3 encoder and 3 decoder layers on KITTI without a teacher, 12 epochs.

Paper, Table 6: 52.5 AP (44.8 FPS on an A100).

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ...baselines.dino_r18_kitti import dataloader, lr_multiplier, model, optimizer, train

model.transformer.encoder.num_layers = 3
model.transformer.decoder.num_layers = 3
train.output_dir = "output/ablations/baselines/layers_3_3_dino_r18_kitti"
