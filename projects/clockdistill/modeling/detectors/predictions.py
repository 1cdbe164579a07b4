"""What detectors predict, and the two heads that predict it."""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers.feed_forward import MLP

PRIOR = 0.01  # class probability before training, RetinaNet (arXiv:1708.02002), section 4.1


@dataclass(frozen=True)
class Predictions:
    """Class logits and boxes of E decoder layers, first to last, for Q queries.

    Attributes:
        logits: (E, B, Q, K) before sigmoid.
        boxes: (E, B, Q, 4) cxcywh in [0, 1] of the unpadded image.
    """

    logits: Tensor
    boxes: Tensor

    def queries(self, selection: slice) -> "Predictions":
        """Returns the same layers for some of the queries."""
        return Predictions(self.logits[:, :, selection], self.boxes[:, :, selection])

    def layers(self, selection: slice) -> "Predictions":
        """Returns some of the layers for the same queries."""
        return Predictions(self.logits[selection], self.boxes[selection])


def class_head(embed_dim: int, num_classes: int) -> nn.Linear:
    """Maps (..., embed_dim) to class logits (..., num_classes); probabilities start at `PRIOR`."""
    head = nn.Linear(embed_dim, num_classes)
    nn.init.constant_(head.bias, -math.log((1 - PRIOR) / PRIOR))
    return head


def box_head(embed_dim: int) -> MLP:
    """Maps (..., embed_dim) to box offsets (..., 4) before sigmoid, which start at 0."""
    head = MLP(embed_dim, embed_dim, 4, 3)
    nn.init.zeros_(head.layers[-1].weight)
    nn.init.zeros_(head.layers[-1].bias)
    return head
