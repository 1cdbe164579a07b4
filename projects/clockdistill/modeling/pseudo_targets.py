"""Targets of images without labels: what the teacher is sure of."""

from collections.abc import Sequence

import torch
from detectron2.structures import Instances
from torch import Tensor
from torchvision.ops import box_convert

UNLABELLED = "unlabelled"  # key of an image; True: it has no labels


class PseudoTargets:
    """Turns a teacher's confident detections into targets.

    They place the target-aware queries and the foreground of the memory loss. No detection loss
    sees them. Beyond the paper, whose images all have labels.

    Args:
        threshold: lowest score of a detection, in (0, 1].
    """

    def __init__(self, threshold: float = 0.5):
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold={threshold} is not a score. Fix: use more than 0, up to 1")
        self.threshold = threshold

    def __call__(
        self, detections: Sequence[Instances], device: torch.device
    ) -> list[dict[str, Tensor]]:
        """Makes the targets of some images.

        Args:
            detections: per image pred_boxes (absolute xyxy), scores and pred_classes.
            device: where the targets go.

        Returns:
            Per image "labels" (N,) int64 and "boxes" (N, 4) cxcywh in [0, 1] of the unpadded image.
        """
        targets = []
        for image in detections:
            sure = image[image.scores >= self.threshold]
            height, width = image.image_size
            boxes_px = sure.pred_boxes.tensor
            boxes = boxes_px / boxes_px.new_tensor([width, height, width, height])
            targets.append(
                {
                    "labels": sure.pred_classes.to(device),
                    "boxes": box_convert(boxes, "xyxy", "cxcywh").to(device),
                }
            )
        return targets


def by_labels(batched_inputs: Sequence[dict]) -> list[list[dict]]:
    """Splits a batch into the images with labels and, where images say which, those without.

    Returns:
        One list where no image has the key `UNLABELLED`: all have labels. Otherwise two, of which
        one may be empty.
    """
    if not any(UNLABELLED in image for image in batched_inputs):
        return [list(batched_inputs)]
    without = [image for image in batched_inputs if image.get(UNLABELLED)]
    return [[image for image in batched_inputs if not image.get(UNLABELLED)], without]
