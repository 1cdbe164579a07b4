"""Deformable-DETR's own settings, COCO for 50 epochs: twice the batch and the rate.

Source: Deformable DETR (arXiv:2010.04159), appendix A.2: batches of 32, 2e-4, and a tenth of it
for the projections that give reference points and sampling offsets.
"""

from .coco_50ep import dataloader, lr_multiplier, optimizer, train

dataloader.train.total_batch_size = 32
optimizer.lr = 2e-4
optimizer.params.lr_factors = {
    "backbone": 0.1,
    "reference_points": 0.1,
    "sampling_offsets": 0.1,
}
train.max_iter = 187_500
train.eval_period = 3_750  # once an epoch
train.checkpointer.period = 3_750
