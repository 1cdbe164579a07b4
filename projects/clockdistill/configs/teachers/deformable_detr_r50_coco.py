"""Deformable-DETR R50 on COCO, 50 epochs: the teacher of deformable_detr_r18_coco.

Paper, Table 3: 44.3 AP.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ..common.deformable_coco_50ep import dataloader, lr_multiplier, optimizer, train
from ..models.deformable_detr import deformable_detr

model = deformable_detr(depth=50)
train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "output/teachers/deformable_detr_r50_coco"
