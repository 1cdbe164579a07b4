"""DAB-DETR R50 on KITTI, 50 epochs: the teacher of dab_detr_r18_kitti.

It is also the undistilled student that dab_detr_r50_kitti is compared with.

Paper, Table 2: 47.5 AP, 44M parameters, 56 GFLOPs.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ..common.kitti_50ep import dataloader, lr_multiplier, optimizer, train
from ..models.dab_detr import dab_detr

model = dab_detr(depth=50, num_classes=7)
train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "output/teachers/dab_detr_r50_kitti"
