"""COCO for 90,000 steps of 16 images, detrex's "12 epochs": 12.17 of its 118,287 images.

Evaluated every 7,500 steps.
"""

from .coco import dataloader
from .optim import optimizer
from .schedule import step_12ep as lr_multiplier
from .train import train

dataloader.train.total_batch_size = 16
train.max_iter = 90_000
train.eval_period = 7_500
train.checkpointer.period = 7_500
