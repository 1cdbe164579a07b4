"""DAB-DETR R101 on KITTI, 50 epochs: the teacher of dab_detr_r50_kitti.

Paper, Table 2: 50.9 AP, 63M parameters, 98 GFLOPs.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ..common.kitti_50ep import dataloader, lr_multiplier, optimizer, train
from ..models.dab_detr import dab_detr

model = dab_detr(depth=101, num_classes=7)
train.init_checkpoint = "torchvision://resnet101"
train.output_dir = "output/teachers/dab_detr_r101_kitti"
