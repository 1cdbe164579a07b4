"""Deformable-DETR's own settings, KITTI for 50 epochs: twice the batch and the rate.

Source: Deformable DETR (arXiv:2010.04159), appendix A.2: batches of 32, 2e-4, and a tenth of it
for the projections that give reference points and sampling offsets.
"""

from .kitti_50ep import dataloader, lr_multiplier, optimizer, train

dataloader.train.total_batch_size = 32
optimizer.lr = 2e-4
optimizer.params.lr_factors = {
    "backbone": 0.1,
    "reference_points": 0.1,
    "sampling_offsets": 0.1,
}
train.max_iter = 9_352  # 50 epochs * 5985 images / 32 images a step
train.eval_period = 187  # once an epoch
train.checkpointer.period = 187
