"""Deformable-DETR R18 on KITTI without a teacher, 50 epochs.

Paper, Table 2: 56.9 AP, 24M parameters, 79 GFLOPs.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ..common.deformable_kitti_50ep import dataloader, lr_multiplier, optimizer, train
from ..models.deformable_detr import deformable_detr

model = deformable_detr(depth=18, num_classes=7)
train.init_checkpoint = "torchvision://resnet18"
train.output_dir = "output/baselines/deformable_detr_r18_kitti"
