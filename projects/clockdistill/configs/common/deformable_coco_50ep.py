"""COCO for 50 epochs with Deformable-DETR's own settings: batches of 32."""

from .coco_50ep import dataloader, lr_multiplier, train
from .deformable_optim import optimizer

dataloader.train.total_batch_size = 32
train.max_iter = 187_500
train.eval_period = 3_750
train.checkpointer.period = 3_750
