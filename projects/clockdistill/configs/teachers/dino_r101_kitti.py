"""DINO R101 on KITTI, 36 epochs: the teacher of dino_r50_kitti.

Paper, Table 2: 66.9 AP, 66M parameters, 197 GFLOPs.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ..common.kitti_36ep import dataloader, lr_multiplier, optimizer, train
from ..models.dino import dino

model = dino(depth=101, num_classes=7)
train.init_checkpoint = "torchvision://resnet101"
train.output_dir = "output/teachers/dino_r101_kitti"
