"""The comparison of an exported file with its checkpoint, on the same images."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from detectron2.structures import Instances, pairwise_iou
from scipy.optimize import linear_sum_assignment

from projects.clockdistill.deployment.runtimes import ExportedDetector
from projects.clockdistill.modeling.detectors.base import Detector

SCORE = 0.1  # detections above it are compared,
BEST = 10  # and as many of each image whatever their scores, which untrained weights need
_IOU = 0.5  # of boxes that can be the same detection at all
NOISE = 1e-4  # grey levels; the last bit of a bright pixel in float32 is 1.5e-5
NOISY_COPIES = 8


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

Image: TypeAlias = dict[str, Any]
Pair: TypeAlias = tuple[Instances, Instances]  # detections of both detectors on one image


@dataclass(frozen=True)
class Parity:
    """Differences of two detectors on the same images.

    Attributes:
        images: number of images compared.
        left_out: number of images on which the checkpoint itself is not stable.
        detections: of either detector above `SCORE`, and the `BEST` of each image.
        unmatched: those of them without a counterpart of the same class at an IoU of 0.5.
        score_difference: the largest one between counterparts.
        iou: the smallest one between counterparts.
    """

    images: int
    left_out: int
    detections: int
    unmatched: int
    score_difference: float
    iou: float

    def holds(self, limits: Limits) -> bool:
        """Returns whether enough was compared, and all of it is within the limits."""
        return self.detections > 0 and self.left_out <= self.images and self.within(limits)

    def within(self, limits: Limits) -> bool:
        """Returns whether no detection exceeds the limits."""
        return (
            self.unmatched == 0 and self.score_difference <= limits.score and self.iou >= limits.iou
        )


def compare(pairs: Iterable[Pair]) -> Parity:
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
    return Parity(images, 0, detections, unmatched, max(differences), min(ious))


@torch.no_grad()
def measure(
    detector: Detector,
    exported: ExportedDetector,
    images: Sequence[Image],
    limits: Limits | None = None,
) -> Parity:
    """Compares a file with its detector, on each image padded to the file's size.

    The detector pads as it does in a batch with a larger image. Padding is part of the input: it
    changes detections a little, since convolutions and group norms see it. A file that takes any
    number of images also gets the first four at once.

    Args:
        detector: in eval mode.
        exported: the file.
        images: as detectors take them.
        limits: an image beyond them is left out if the detector itself is not stable on it.
    """
    height, width = exported.runtime.height, exported.runtime.width
    largest = {"image": torch.zeros(3, height, width)}

    def detect(image: Image) -> Instances:
        fills = tuple(image["image"].shape[1:]) == (height, width)
        return detector([image] if fills else [image, largest])[0]["instances"]

    found = [[exported([image])[0]["instances"]] for image in images]
    if exported.runtime.max_batch is None:
        for alone, together in zip(found, exported(images[:4]), strict=False):
            alone.append(together["instances"])
    kept: list[Pair] = []
    left_out = 0
    for image, others in zip(images, found, strict=True):
        expected = detect(image)
        pairs = [(expected, other) for other in others]
        agrees = limits is None or compare(pairs).within(limits)
        if agrees or is_stable(detect, image, expected, limits):
            kept += pairs
        else:
            left_out += 1
    return dataclasses.replace(compare(kept), images=len(images) - left_out, left_out=left_out)


def is_stable(
    detect: Callable[[Image], Instances], image: Image, expected: Instances, limits: Limits
) -> bool:
    """Returns whether noise of `NOISE` grey levels leaves an image's detections within the limits.

    A two-stage detector ranks all tokens. Where two of them are nearly equal, the last bit of a sum
    decides which comes first, in any runtime and in the checkpoint alike. No file can agree with
    the checkpoint where the checkpoint does not agree with itself.

    Args:
        detect: image to detections.
        image: as detectors take it.
        expected: its detections without noise.
        limits: of the differences from them.
    """
    generator = torch.Generator().manual_seed(0)
    pixels = image["image"].float()
    for _ in range(NOISY_COPIES):
        noise = NOISE * (2 * torch.rand(pixels.shape, generator=generator) - 1)
        noisy = detect({**image, "image": pixels + noise})
        if not compare([(expected, noisy)]).within(limits):
            return False
    return True
