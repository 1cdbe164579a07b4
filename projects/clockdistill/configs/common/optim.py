"""AdamW as the DETR family uses it: 1e-4, a tenth of it for the backbone, weight decay 1e-4.

Source: DINO (arXiv:2203.03605), appendix D; DAB-DETR (arXiv:2201.12329), section 5.1.
"""

from detectron2.config import LazyCall as L
from torch.optim import AdamW

from projects.clockdistill.engine.solver import parameter_groups

optimizer = L(AdamW)(
    params=L(parameter_groups)(base_lr="${..lr}", lr_factors={"backbone": 0.1}),
    lr=1e-4,
    weight_decay=1e-4,
    fused=True,  # one kernel for all parameters, on CPUs and on CUDA
)
