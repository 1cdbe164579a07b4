"""AdamW as the DETR family uses it: 1e-4, a tenth of it for the backbone, weight decay 1e-4.

Source: Deformable DETR (arXiv:2010.04159), appendix A.2; DINO (arXiv:2203.03605), appendix.
"""

from detectron2.config import LazyCall as L
from torch.optim import AdamW

from projects.clockdistill.engine.param_groups import backbone_and_rest

optimizer = L(AdamW)(
    params=L(backbone_and_rest)(base_lr="${..lr}", backbone_lr_factor=0.1),
    lr=1e-4,
    weight_decay=1e-4,
    fused=True,  # one kernel for all parameters, on CPUs and on CUDA
)
