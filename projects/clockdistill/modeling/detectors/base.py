"""What every detector does around its layers: images to a batch, annotations to targets, and
predictions to detections."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn
from torchvision.ops import box_convert

from projects.clockdistill.modeling.detectors.postprocess import detections
from projects.clockdistill.modeling.detectors.predictions import Predictions

Target = dict[str, Tensor]  # labels (N,) int64; boxes (N, 4) cxcywh in [0, 1], unpadded image


class Detector(nn.Module):
    """Base of the detectors: normalises and pads images, checks and scales annotations.

    Args:
        num_classes: classes that the annotations may name.
        pixel_mean: per channel, on the scale of the images (0 to 255).
        pixel_std: per channel.
        input_format: channel order of the images, which the data mapper must deliver.
        select_box_nums_for_evaluation: detections per image.
    """

    def __init__(
        self,
        num_classes: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str,
        select_box_nums_for_evaluation: int = 300,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.input_format = input_format
        self.select_box_nums_for_evaluation = select_box_nums_for_evaluation
        # Not persistent: the checkpoints' contract has no such keys.
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            constant = torch.tensor(list(values), dtype=torch.float32).view(-1, 1, 1)
            self.register_buffer(name, constant, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the images go."""
        return self.pixel_mean.device

    def preprocess_images(self, batched_inputs: list[dict[str, Any]]) -> tuple[ImageList, Tensor]:
        """Normalises the images and pads them to one size with zeros (the mean colour).

        Args:
            batched_inputs: each with "image", (C, H, W) of any number type.

        Returns:
            The batch with every image's own size, and its mask (B, H, W) bool, True = padding.

        Raises:
            ValueError: if the batch is empty or an image has other channels than `pixel_mean`.
        """
        if not batched_inputs:
            raise ValueError("the batch holds no image")
        channels = len(self.pixel_mean)
        for entry in batched_inputs:
            shape = tuple(entry["image"].shape)
            if len(shape) != 3 or shape[0] != channels:
                raise ValueError(
                    f"{_name(entry)}: expected an image of shape ({channels}, H, W), got {shape}"
                )
        images = ImageList.from_tensors(
            [
                (entry["image"].to(self.device) - self.pixel_mean) / self.pixel_std
                for entry in batched_inputs
            ]
        )
        # Convolutions and pooling keep this layout and run faster in it, above all on a CPU.
        images.tensor = images.tensor.contiguous(memory_format=torch.channels_last)
        batch, _, height, width = images.tensor.shape
        mask = torch.ones(batch, height, width, dtype=torch.bool, device=self.device)
        for padding, (h, w) in zip(mask, images.image_sizes, strict=True):
            padding[:h, :w] = False
        return images, mask

    def prepare_targets(self, batched_inputs: list[dict[str, Any]]) -> list[Target]:
        """Checks the annotations and brings boxes to cxcywh in [0, 1] of the unpadded image.

        Raises:
            ValueError: naming the image, if annotations are missing, made for another image
                size, of an unknown class, or boxes are not finite with x1 <= x2 and y1 <= y2.
        """
        targets = []
        for entry in batched_inputs:
            if "instances" not in entry:
                raise ValueError(
                    f'{_name(entry)}: training needs "instances"; was the data mapper built with '
                    "is_train=False?"
                )
            instances = entry["instances"]
            height, width = instances.image_size
            if (height, width) != tuple(entry["image"].shape[-2:]):
                raise ValueError(
                    f"{_name(entry)}: annotations are for {height} x {width}, the image is "
                    f"{entry['image'].shape[-2]} x {entry['image'].shape[-1]}"
                )
            labels, boxes_px = instances.gt_classes, instances.gt_boxes.tensor
            # Checked where the annotations are, usually the CPU: no device sync.
            if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
                raise ValueError(
                    f"{_name(entry)}: classes {sorted(set(labels.tolist()))} for a model with "
                    f"num_classes={self.num_classes} (0 to {self.num_classes - 1}); set "
                    "model.num_classes to the dataset's"
                )
            ordered = (boxes_px[:, 2:] >= boxes_px[:, :2]).all() and boxes_px.isfinite().all()
            if not ordered:
                raise ValueError(
                    f"{_name(entry)}: boxes must be finite with x1 <= x2 and y1 <= y2, got "
                    f"{boxes_px.tolist()}"
                )
            scale = boxes_px.new_tensor([width, height, width, height])
            boxes = box_convert(boxes_px / scale, "xyxy", "cxcywh")
            targets.append(
                {
                    "labels": labels.to(self.device, torch.int64),
                    "boxes": boxes.to(self.device, torch.float32),
                }
            )
        return targets

    def detections(
        self,
        predictions: Predictions,
        image_sizes: list[tuple[int, int]],
        batched_inputs: list[dict[str, Any]],
    ) -> list[dict[str, Instances]]:
        """The last stage's detections in pixels of the original images.

        Args:
            predictions: of all images; only the last stage is read.
            image_sizes: (H, W) of each image without padding.
            batched_inputs: with "height" and "width" of the originals, by default the images'.

        Returns:
            Per image {"instances": Instances}.
        """
        results = detections(
            predictions.logits[-1],
            predictions.boxes[-1],
            image_sizes,
            [
                (entry.get("height", height), entry.get("width", width))
                for entry, (height, width) in zip(batched_inputs, image_sizes, strict=True)
            ],
            self.select_box_nums_for_evaluation,
        )
        return [{"instances": instances} for instances in results]


def require_equal(*pairs: tuple[str, int, str, int]) -> None:
    """Refuses sizes that must agree and do not, each pair as (name, value, other name, value).

    Raises:
        ValueError: naming both.
    """
    for name, value, other, found in pairs:
        if value != found:
            raise ValueError(f"{name}={value} but {other}={found}; they must be equal")


def _name(entry: dict[str, Any]) -> str:
    """How an error message names an image."""
    return str(entry.get("file_name", "image without file_name"))
