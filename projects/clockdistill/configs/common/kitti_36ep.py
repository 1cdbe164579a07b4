"""KITTI for 36 epochs of 5,985 images in batches of 16, evaluated once an epoch."""

from .kitti import dataloader
from .optim import optimizer
from .schedule import step_36ep as lr_multiplier
from .train import train

dataloader.train.total_batch_size = 16
train.max_iter = 13_467  # 36 epochs * 5985 images / 16 images a step
train.eval_period = 374  # once an epoch
train.checkpointer.period = 374
