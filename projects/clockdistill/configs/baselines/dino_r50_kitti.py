"""DINO R50 on KITTI without a teacher, 12 epochs.

Paper, Table 2: 57.7 AP, 47M parameters, 155 GFLOPs.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ..common.kitti_12ep import dataloader, lr_multiplier, optimizer, train
from ..models.dino import dino

model = dino(depth=50, num_classes=7)
train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "output/baselines/dino_r50_kitti"
