"""KITTI for 50 epochs of 5,985 images in batches of 16, evaluated once an epoch."""

from .kitti import dataloader
from .optim import optimizer
from .schedule import step_50ep as lr_multiplier
from .train import train

dataloader.train.total_batch_size = 16
train.max_iter = 18_703  # 50 epochs * 5985 images / 16 images a step
train.eval_period = 374  # once an epoch
train.checkpointer.period = 374
