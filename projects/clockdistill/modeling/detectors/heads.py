"""The two prediction heads and how they start."""

import math

from torch import nn

from projects.clockdistill.modeling.detectors.layers.feed_forward import MLP

PRIOR = 0.01  # class probability before training, RetinaNet (arXiv:1708.02002), section 4.1


def class_head(embed_dim: int, num_classes: int) -> nn.Linear:
    """(..., embed_dim) to class logits (..., num_classes), whose probability starts at `PRIOR`."""
    head = nn.Linear(embed_dim, num_classes)
    nn.init.constant_(head.bias, -math.log((1 - PRIOR) / PRIOR))
    return head


def box_head(embed_dim: int) -> MLP:
    """(..., embed_dim) to box offsets (..., 4) before sigmoid, which start at 0."""
    head = MLP(embed_dim, embed_dim, 4, 3)
    nn.init.zeros_(head.layers[-1].weight)
    nn.init.zeros_(head.layers[-1].bias)
    return head
