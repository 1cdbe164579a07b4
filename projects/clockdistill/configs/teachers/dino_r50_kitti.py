"""DINO R50 on KITTI, 36 epochs: the teacher of dino_r18_kitti.

Paper, Table 2: 66.2 AP, 47M parameters, 155 GFLOPs.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ..common.kitti_36ep import dataloader, lr_multiplier, optimizer, train
from ..models.dino import dino

model = dino(depth=50, num_classes=7)
train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "output/teachers/dino_r50_kitti"
