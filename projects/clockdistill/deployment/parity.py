"""The comparison of an exported file with its checkpoint, on the same images."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.structures import Instances, pairwise_iou
from scipy.optimize import linear_sum_assignment

from projects.clockdistill.deployment.runtimes import ExportedDetector
from projects.clockdistill.modeling.detectors.base import Detector

SCORE = 0.1  # detections above it are compared,
BEST = 10  # and as many of each image whatever their scores, which untrained weights need
_IOU = 0.5  # of boxes that can be the same detection at all


@dataclass(frozen=True)
class Limits:
    """How far a file may be from its checkpoint.

    Attributes:
        score: largest difference of a score.
        iou: smallest IoU of two boxes.
    """

    score: float
    iou: float


LIMITS = {"fp32": Limits(1e-4, 0.999), "fp16": Limits(1e-2, 0.98)}


@dataclass(frozen=True)
class Parity:
    """Differences of two detectors on the same images.

    Attributes:
        images: number of images.
        detections: of either detector above `SCORE`, and the `BEST` of each image.
        unmatched: those of them without a counterpart of the same class at an IoU of 0.5.
        score_difference: the largest one between counterparts.
        iou: the smallest one between counterparts.
    """

    images: int
    detections: int
    unmatched: int
    score_difference: float
    iou: float

    def holds(self, limits: Limits) -> bool:
        """Returns whether there was something to compare and all of it is within the limits."""
        return (
            self.detections > 0
            and self.unmatched == 0
            and self.score_difference <= limits.score
            and self.iou >= limits.iou
        )


def compare(pairs: Iterable[tuple[Instances, Instances]]) -> Parity:
    """Compares the detections of two detectors.

    Each detection above `SCORE` of one detector, and each of its `BEST`, is matched one to one with
    any detection of the other, of whatever score or rank: the order of equal scores means nothing,
    and a score just above `SCORE` may be just below in the other.

    Args:
        pairs: per image, both detectors' `pred_boxes`, `scores` and `pred_classes`.
    """
    images = detections = unmatched = 0
    differences, ious = [0.0], [1.0]
    for pair in pairs:
        images += 1
        for one, other in (pair, pair[::-1]):
            one = one[: max(BEST, int((one.scores > SCORE).sum()))]  # they are sorted by score
            iou = pairwise_iou(one.pred_boxes, other.pred_boxes)
            difference = (one.scores[:, None] - other.scores).abs()
            possible = (one.pred_classes[:, None] == other.pred_classes) & (iou > _IOU)
            possible &= (difference + iou).isfinite()
            # an impossible pair costs more than all possible ones together
            cost = torch.where(possible, difference + 1 - iou, 2.0 * len(one) + 1)
            rows, columns = linear_sum_assignment(cost.numpy())
            matched = possible[rows, columns].numpy()
            rows, columns = rows[matched], columns[matched]
            detections += len(one)
            unmatched += len(one) - len(rows)
            differences += difference[rows, columns].tolist()
            ious += iou[rows, columns].tolist()
    return Parity(images, detections, unmatched, max(differences), min(ious))


@torch.no_grad()
def measure(
    detector: Detector, exported: ExportedDetector, images: Iterable[dict[str, Any]]
) -> Parity:
    """Compares a file with its detector, on each image padded to the file's size.

    The detector pads as it does in a batch with a larger image. Padding is part of the input: it
    changes detections a little, since convolutions and group norms see it. A file that takes any
    number of images also gets the first four at once.

    Args:
        detector: in eval mode.
        exported: the file.
        images: as detectors take them.
    """
    height, width = exported.runtime.height, exported.runtime.width
    largest = {"image": torch.zeros(3, height, width)}
    images, pairs = list(images), []
    for image in images:
        fills = tuple(image["image"].shape[1:]) == (height, width)
        expected = detector([image] if fills else [image, largest])[0]
        pairs.append((expected["instances"], exported([image])[0]["instances"]))
    if exported.runtime.max_batch is None:
        some = slice(0, 4)
        together = zip(pairs[some], exported(images[some]), strict=True)
        pairs += [(expected, found["instances"]) for (expected, _), found in together]
    return compare(pairs)
