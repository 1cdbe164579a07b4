"""Deformable-DETR R18 on COCO without a teacher, 50 epochs.

Paper, Table 3: 37.8 AP.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ..common.deformable_coco_50ep import dataloader, lr_multiplier, optimizer, train
from ..models.deformable_detr import deformable_detr

model = deformable_detr(depth=18)
train.init_checkpoint = "torchvision://resnet18"
train.output_dir = "output/baselines/deformable_detr_r18_coco"
