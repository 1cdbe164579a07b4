"""DINO R18 with 3 encoder and 6 decoder layers on KITTI without a teacher, 12 epochs.

Paper, Table 6: 56.1 AP (34.7 FPS on an A100).

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ...baselines.dino_r18_kitti import dataloader, lr_multiplier, model, optimizer, train

model.transformer.encoder.num_layers = 3
model.transformer.decoder.num_layers = 6
train.output_dir = "output/ablations/baselines/layers_3_6_dino_r18_kitti"
