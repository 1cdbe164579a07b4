"""Box arithmetic that torchvision.ops does not offer in this form."""

import torch
from torch import Tensor
from torch.nn import functional as F


def inverse_sigmoid(x: Tensor, eps: float = 1e-3) -> Tensor:
    """Returns the logit of values in [0, 1], kept finite at both ends.

    Args:
        x: any shape; clamped to [0, 1] first.
        eps: numerator and denominator are at least this. DINO's checkpoints were trained
            with 1e-3, so box centres nearer to the border than that saturate.

    Returns:
        Same shape as `x`, within [-log(1/eps), log(1/eps)].
    """
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def boxes_around(reference: Tensor, offsets: Tensor) -> Tensor:
    """Returns the boxes that a head predicts as offsets from reference points or boxes.

    Source: Deformable DETR (arXiv:2010.04159), section 4.2 (points: the size is the offset alone)
    and appendix A.4 (boxes).

    Args:
        reference: (..., 2) centres or (..., 4) cxcywh, in [0, 1].
        offsets: (..., 4), before sigmoid.

    Returns:
        (..., 4) cxcywh in [0, 1].
    """
    reference_unact = inverse_sigmoid(reference)
    return (offsets + F.pad(reference_unact, (0, 4 - reference.shape[-1]))).sigmoid()


def generalized_iou(first_xyxy: Tensor, second_xyxy: Tensor, eps: float = 1e-6) -> Tensor:
    """Computes the generalised IoU of boxes whose leading dimensions broadcast.

    torchvision has an all-pairs form without `eps` (0/0 for empty boxes) and an elementwise
    form that gathers through a mask (a device sync); matcher and loss need one that does both.

    Source: Generalized Intersection over Union (arXiv:1902.09630), algorithm 1.

    Args:
        first_xyxy: (..., 4) with x1 <= x2 and y1 <= y2.
        second_xyxy: (..., 4), the same unit.
        eps: added to both denominators; small against any area in squares of the unit.

    Returns:
        (...) in (-1, 1], the broadcast shape without the last dimension.
    """
    area_first = _area(first_xyxy[..., 2:] - first_xyxy[..., :2])
    area_second = _area(second_xyxy[..., 2:] - second_xyxy[..., :2])
    overlap = torch.minimum(first_xyxy[..., 2:], second_xyxy[..., 2:]) - torch.maximum(
        first_xyxy[..., :2], second_xyxy[..., :2]
    )
    intersection = _area(overlap.clamp(min=0))
    union = area_first + area_second - intersection
    hull = torch.maximum(first_xyxy[..., 2:], second_xyxy[..., 2:]) - torch.minimum(
        first_xyxy[..., :2], second_xyxy[..., :2]
    )
    hull_area = _area(hull)
    return intersection / (union + eps) - (hull_area - union) / (hull_area + eps)


def _area(sides: Tensor) -> Tensor:
    """Multiplies widths and heights (..., 2); the gradient of `prod` would wait for the device."""
    width, height = sides.unbind(-1)
    return width * height
