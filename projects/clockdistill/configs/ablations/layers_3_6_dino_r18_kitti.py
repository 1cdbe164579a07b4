"""DINO R50 teacher -> R18 student with 3 encoder and 6 decoder layers on KITTI, 12 epochs.

Paper, Table 6: 56.1 -> 60.4 AP (34.7 FPS on an A100).
The memory is that of the last encoder layers. The decoders have equally many layers, so every
decoder layer is distilled.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from ..dino_r18_kitti import dataloader, lr_multiplier, model, optimizer, train

model.student.transformer.encoder.num_layers = 3
model.student.transformer.decoder.num_layers = 6
train.output_dir = "output/ablations/layers_3_6_dino_r18_kitti"
