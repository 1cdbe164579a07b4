"""One-to-one assignment of predictions to annotated objects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_convert

from projects.clockdistill.modeling.detectors.base import Target
from projects.clockdistill.modeling.detectors.layers.boxes import generalized_iou
from projects.clockdistill.modeling.detectors.predictions import Predictions
from projects.clockdistill.modeling.detectors.transfers import to_device, to_host


@dataclass(frozen=True)
class Matches:
    """Which query of which image stands for which object, in each of E decoder layers.

    Every layer has the same number M of matches.

    Attributes:
        image: (E, M) int64.
        query: (E, M) int64.
        target: (E, M) int64, counting through the objects of all images.
    """

    image: Tensor
    query: Tensor
    target: Tensor


class HungarianMatcher(nn.Module):
    """Finds the assignment of least cost, for each layer and image alone.

    Source: DETR (arXiv:2005.12872), section 3.1 and appendix A.2; class cost in the focal form
    of Deformable DETR (arXiv:2010.04159), appendix A.4.

    Args:
        cost_class: weight of the class cost.
        cost_bbox: weight of the L1 distance of cxcywh in [0, 1].
        cost_giou: weight of the negative generalised IoU.
        alpha: balance of the focal class cost.
        gamma: exponent of the focal class cost.
    """

    def __init__(
        self,
        cost_class: float = 1.0,
        cost_bbox: float = 1.0,
        cost_giou: float = 1.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ):
        super().__init__()
        self.cost_class = cost_class
        self.cost_bbox = cost_bbox
        self.cost_giou = cost_giou
        self.alpha = alpha
        self.gamma = gamma

    @torch.no_grad()
    def forward(
        self, predictions: Sequence[Predictions], targets: Sequence[Target]
    ) -> list[Matches]:
        """Matches all layers of all predictions, with one transfer to the host and one back.

        Args:
            predictions: groups of layers; the number of queries may differ between groups.
            targets: per image.

        Returns:
            One `Matches` per group, with min(Q, objects) matches per image.

        Raises:
            FloatingPointError: naming layer, image and query, if a prediction is not finite.
        """
        labels = pad_sequence([t["labels"] for t in targets], batch_first=True)  # (B, N)
        boxes = pad_sequence([t["boxes"] for t in targets], batch_first=True)  # (B, N, 4)
        counts = [len(t["labels"]) for t in targets]
        costs = [self.costs(p, labels, boxes) for p in predictions]  # (E, B, Q, N) each
        assigned = []
        for group, cost in zip(predictions, _moved(costs, to_host), strict=True):
            _check_finite(cost, group)
            assigned.append(_assign(cost.numpy(), counts))
        device = labels.device
        return [Matches(*rows) for rows in _moved(assigned, lambda x: to_device(x, device))]

    def costs(self, predictions: Predictions, labels: Tensor, boxes: Tensor) -> Tensor:
        """Returns the cost of every pair within an image.

        Args:
            predictions: E layers of Q queries.
            labels: (B, N) padded with any class.
            boxes: (B, N, 4) cxcywh in [0, 1], padded with any box.

        Returns:
            (E, B, Q, N) float32.
        """
        logits, predicted = predictions.logits.float(), predictions.boxes.float()
        probability = logits.sigmoid()
        # 1e-8 keeps the logarithms finite where the sigmoid is 0 or 1 in float32.
        negative = (1 - self.alpha) * probability**self.gamma * -(1 - probability + 1e-8).log()
        positive = self.alpha * (1 - probability) ** self.gamma * -(probability + 1e-8).log()
        index = labels[None, :, None].expand(*logits.shape[:3], -1)
        cost_class = (positive - negative).gather(-1, index)
        # Equal to torch.cdist(p=1), which is reported to be slow on GPUs.
        cost_bbox = (predicted[..., :, None, :] - boxes[:, None]).abs().sum(-1)
        iou = generalized_iou(
            box_convert(predicted, "cxcywh", "xyxy")[..., :, None, :],
            box_convert(boxes, "cxcywh", "xyxy")[:, None],
        )
        return self.cost_class * cost_class + self.cost_bbox * cost_bbox - self.cost_giou * iou


def _moved(tensors: Sequence[Tensor], move: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Moves tensors of any shapes to another device as one."""
    moved = move(torch.cat([x.flatten() for x in tensors])).split([x.numel() for x in tensors])
    return [flat.view(x.shape) for flat, x in zip(moved, tensors, strict=True)]


def _assign(cost: np.ndarray, counts: list[int]) -> Tensor:
    """Solves one assignment per layer and image: cost (E, B, Q, N), objects per image.

    Returns:
        (3, E, M), the rows of `Matches`.
    """
    layers = []
    for layer_cost in cost:
        rows, start = [np.empty((3, 0), dtype=np.int64)], 0
        for image, (image_cost, count) in enumerate(zip(layer_cost, counts, strict=True)):
            query, target = linear_sum_assignment(image_cost[:, :count])
            rows.append(np.stack((np.full_like(query, image), query, target + start)))
            start += count
        layers.append(np.concatenate(rows, axis=1))
    return torch.from_numpy(np.stack(layers, axis=1))


def _check_finite(cost: Tensor, predictions: Predictions) -> None:
    """Raises an error that names the first prediction that is NaN or infinite."""
    if cost.isfinite().all():
        return
    layer, image, query, _ = (~cost.isfinite()).nonzero()[0].tolist()
    raise FloatingPointError(
        f"the predictions of decoder layer {layer}, image {image} of the batch, query {query} are "
        f"not finite: logits {predictions.logits[layer, image, query].tolist()}, "
        f"box {predictions.boxes[layer, image, query].tolist()}. Fix: lower the learning rate or "
        "clip gradients if training diverged, use bfloat16 if half precision overflowed"
    )
