"""KITTI for 50 epochs with Deformable-DETR's own settings: batches of 32."""

from .deformable_optim import optimizer
from .kitti_50ep import dataloader, lr_multiplier, train

dataloader.train.total_batch_size = 32
train.max_iter = 9_352  # 50 epochs * 5985 images / 32 images a step
train.eval_period = 187  # once an epoch
train.checkpointer.period = 187
