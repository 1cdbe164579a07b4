"""Deformable-DETR R50 on KITTI, 50 epochs: the teacher of deformable_detr_r18_kitti.

It is also the undistilled student that deformable_detr_r50_kitti is compared with.

Paper, Table 2: 58.7 AP, 40M parameters, 106 GFLOPs.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ..common.deformable_kitti_50ep import dataloader, lr_multiplier, optimizer, train
from ..models.deformable_detr import deformable_detr

model = deformable_detr(depth=50, num_classes=7)
train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "output/teachers/deformable_detr_r50_kitti"
