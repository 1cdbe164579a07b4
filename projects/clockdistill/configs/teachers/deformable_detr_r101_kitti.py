"""Deformable-DETR R101 on KITTI, 50 epochs: the teacher of deformable_detr_r50_kitti.

Paper, Table 2: 61.1 AP, 59M parameters, 148 GFLOPs.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ..common.deformable_kitti_50ep import dataloader, lr_multiplier, optimizer, train
from ..models.deformable_detr import deformable_detr

model = deformable_detr(depth=101, num_classes=7)
train.init_checkpoint = "torchvision://resnet101"
train.output_dir = "output/teachers/deformable_detr_r101_kitti"
