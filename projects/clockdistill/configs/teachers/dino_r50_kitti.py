"""DINO R50 on KITTI, 36 epochs: the teacher of dino_r18_kitti. Paper, Table 2: 66.2 AP.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ..common.kitti import dataloader
from ..common.optim import optimizer
from ..common.schedule import kitti_36ep as lr_multiplier
from ..common.train import train
from ..models.dino import dino

model = dino(depth=50, num_classes=7)
train.init_checkpoint = "torchvision://resnet50"
dataloader.train.total_batch_size = 16
train.max_iter = 13_467  # 36 epochs * 5985 images / 16 images a step
train.eval_period = 374  # once an epoch
train.checkpointer.period = 374
train.output_dir = "output/teachers/dino_r50_kitti"
