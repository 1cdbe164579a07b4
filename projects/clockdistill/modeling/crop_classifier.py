"""Classification of crops of driving scenes: pretraining for the small detectors' backbones.

It replaces ImageNet, on which the paper's backbones are pretrained (CLoCKDistill, sec. 4.2): the
small detectors, undistilled and distilled alike, start from its features instead of from noise.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.structures import ImageList
from torch import Tensor, nn
from torchvision.ops import box_convert, roi_align

from projects.clockdistill.modeling.detectors.base import Detector, Target

SIDE = (1.0, 1.6)  # of a crop, in parts of its object's longer side
SHIFT = 0.15  # of a crop's centre at most, in parts of the crop's side
BACKGROUND_SIDE = (0.15, 0.7)  # of a crop, in parts of the image's shorter side


class CropClassifier(Detector):
    """Classifies square crops, around objects and elsewhere, by a backbone's last stage.

    Arguments that are not listed are those of `Detector`.

    Args:
        backbone: detectron2's; the last of its features is read.
        channels: of that feature.
        num_classes: classes of objects; background is one more.
        crop_size: pixels that every crop is resized to, high and wide.
        crops_per_object: in training, each with a side and a shift of its own.
        background_crops: tries per image in training; a crop whose centre lies in an object is
            left out.
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: int,
        num_classes: int,
        crop_size: int,
        crops_per_object: int,
        background_crops: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str,
    ):
        super().__init__(num_classes, pixel_mean, pixel_std, input_format)
        self.backbone = backbone
        self.classifier = nn.Linear(channels, num_classes + 1)
        self.crop_size = crop_size
        self.crops_per_object = crops_per_object
        self.background_crops = background_crops

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[Tensor]:
        """Returns the loss in train mode, the objects' predicted classes in eval mode.

        Args:
            batched_inputs: as the data mapper makes them in training, with "instances".

        Returns:
            Train: {"loss_crops": mean cross-entropy over all crops}. Eval: for each image the
            predicted classes (N,) of its objects, in their order; `num_classes` = background.
        """
        images = self.preprocess_images(batched_inputs)[0]
        targets = self.prepare_targets(batched_inputs)
        if not self.training:
            side = sum(SIDE) / 2
            crops = [
                _squares(boxes[:, :2], _longer_sides(boxes) * side)
                for boxes in _boxes(images, targets)
            ]
            classes = self._logits(images, crops).argmax(dim=1)
            return list(classes.split([len(squares) for squares in crops]))
        crops, labels = [], []
        for boxes, target, size in zip(
            _boxes(images, targets), targets, images.image_sizes, strict=True
        ):
            objects = self._near(boxes)
            background = self._elsewhere(boxes, size)
            crops.append(torch.cat([objects, background]))
            labels.append(target["labels"].repeat(self.crops_per_object))
            labels.append(target["labels"].new_full((len(background),), self.num_classes))
        loss = F.cross_entropy(self._logits(images, crops), torch.cat(labels), reduction="sum")
        return {"loss_crops": loss / max(1, sum(map(len, crops)))}

    def _logits(self, images: ImageList, crops: Sequence[Tensor]) -> Tensor:
        """Returns logits (all crops, num_classes + 1) of crops, xyxy in pixels for each image."""
        patches = roi_align(images.tensor, list(crops), self.crop_size, aligned=True)
        features = list(self.backbone(patches).values())[-1]
        return self.classifier(features.mean(dim=(2, 3)))

    def _near(self, boxes: Tensor) -> Tensor:
        """Draws crops around boxes (N, 4) cxcywh, `crops_per_object` times each."""
        boxes = boxes.repeat(self.crops_per_object, 1)
        sides = _longer_sides(boxes) * _uniform(boxes[:, 0], *SIDE)
        shift = _uniform(boxes[:, :2], -SHIFT, SHIFT)
        return _squares(boxes[:, :2] + shift * sides[:, None], sides)

    def _elsewhere(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Draws crops of an image of size (H, W) whose centres lie in none of its boxes cxcywh."""
        height, width = size
        centres = torch.rand(self.background_crops, 2, device=boxes.device)
        centres = centres * boxes.new_tensor([width, height])
        sides = _uniform(centres[:, 0], *BACKGROUND_SIDE) * min(size)
        distance = (centres[:, None] - boxes[:, :2]).abs()
        inside = (distance < boxes[:, 2:] / 2).all(dim=2).any(dim=1)
        return _squares(centres[~inside], sides[~inside])


def _boxes(images: ImageList, targets: Sequence[Target]) -> list[Tensor]:
    """Returns each image's boxes (N, 4) cxcywh in pixels."""
    return [
        target["boxes"] * target["boxes"].new_tensor([width, height, width, height])
        for target, (height, width) in zip(targets, images.image_sizes, strict=True)
    ]


def _longer_sides(boxes: Tensor) -> Tensor:
    """Returns (N,) of boxes (N, 4) cxcywh."""
    return boxes[:, 2:].amax(dim=1)


def _squares(centres: Tensor, sides: Tensor) -> Tensor:
    """Returns squares (N, 4) xyxy around centres (N, 2) with sides (N,)."""
    return box_convert(torch.cat([centres, sides[:, None].expand(-1, 2)], dim=1), "cxcywh", "xyxy")


def _uniform(like: Tensor, low: float, high: float) -> Tensor:
    """Draws numbers between `low` and `high`, of the shape and on the device of `like`."""
    return low + (high - low) * torch.rand_like(like)
