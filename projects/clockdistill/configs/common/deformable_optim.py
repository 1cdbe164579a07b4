"""AdamW with Deformable-DETR's own settings, for batches of 32 images.

Source: Deformable DETR (arXiv:2010.04159), appendix A.2: 2e-4, and a tenth of it for the
projections that give reference points and sampling offsets.
"""

from .optim import optimizer

optimizer.lr = 2e-4
optimizer.params.lr_factors = {
    "backbone": 0.1,
    "reference_points": 0.1,
    "sampling_offsets": 0.1,
}
