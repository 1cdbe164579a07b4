"""DINO R18 on KITTI without a teacher, 12 epochs.

Paper, Table 2: 56.1 AP, 31M parameters, 128 GFLOPs.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ..common.kitti_12ep import dataloader, lr_multiplier, optimizer, train
from ..models.dino import dino

model = dino(depth=18, num_classes=7)
train.init_checkpoint = "torchvision://resnet18"
train.output_dir = "output/baselines/dino_r18_kitti"
