"""DINO R18 on KITTI without a teacher, 12 epochs. Paper, Table 2: 56.1 AP.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ..common.kitti import dataloader
from ..common.optim import optimizer
from ..common.schedule import kitti_12ep as lr_multiplier
from ..common.train import train
from ..models.dino import dino

model = dino(depth=18, num_classes=7)
train.init_checkpoint = "torchvision://resnet18"
dataloader.train.total_batch_size = 16
train.max_iter = 4_489  # 12 epochs * 5985 images / 16 images a step
train.eval_period = 374  # once an epoch
train.checkpointer.period = 374
train.output_dir = "output/baselines/dino_r18_kitti"
