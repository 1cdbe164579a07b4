"""COCO for 12 epochs, each 7,500 batches of 16 images, evaluated once an epoch."""

from .coco import dataloader
from .optim import optimizer
from .schedule import step_12ep as lr_multiplier
from .train import train

dataloader.train.total_batch_size = 16
train.max_iter = 90_000
train.eval_period = 7_500  # once an epoch
train.checkpointer.period = 7_500
