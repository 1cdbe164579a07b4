"""What every detector does around its layers: images to a batch, annotations to targets, and
predictions to detections."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_convert

from projects.clockdistill.modeling.detectors.transfers import to_device, to_host

Target = dict[str, Tensor]  # labels (N,) int64; boxes (N, 4) cxcywh in [0, 1], unpadded image


class Detector(nn.Module):
    """Base of the detectors; a family adds `losses` and `predictions`.

    Args:
        num_classes: classes that the annotations may name.
        pixel_mean: per channel in the order of `input_format`, on the scale of the images (0 to
            255).
        pixel_std: per channel in the order of `input_format`.
        input_format: channel order that the backbone reads, "RGB" or "BGR". Images come in RGB
            order and are reordered here, so that a BGR teacher and an RGB student share them.
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
        if input_format not in ("RGB", "BGR"):
            raise ValueError(
                f"input_format={input_format!r} is unknown, expected a channel order.\n"
                "Fix: use RGB or BGR, the one that the backbone's weights were trained with"
            )
        self.num_classes = num_classes
        self.input_format = input_format
        self.select_box_nums_for_evaluation = select_box_nums_for_evaluation
        # Not persistent: detrex's checkpoints have no such keys.
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            constant = torch.tensor(list(values), dtype=torch.float32).view(-1, 1, 1)
            self.register_buffer(name, constant, persistent=False)

    @property
    def device(self) -> torch.device:
        """Returns where the images go."""
        return self.pixel_mean.device

    def forward(
        self, batched_inputs: list[dict[str, Any]], targets: list[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Instances]]:
        """Returns losses in train mode, detections in eval mode.

        Args:
            batched_inputs: detectron2's dicts: "image" (3, H, W) in RGB order and 0 to 255, of its
                own size; in train mode "instances" with gt_boxes (absolute xyxy of that image) and
                gt_classes; in eval mode "height" and "width" of the original image, by
                default the image's.
            targets: what `prepare_targets` returns, read in train mode; by default prepared here.

        Returns:
            Train: weighted losses, scalars. Eval: per image {"instances": Instances} in pixels of
            the original image.
        """
        images, mask = self.preprocess_images(batched_inputs)
        if self.training:
            if targets is None:
                targets = self.prepare_targets(batched_inputs)
            return self.losses(images.tensor, mask, targets)
        logits, boxes = self.predictions(images.tensor, mask)
        output_sizes = [
            (entry.get("height", height), entry.get("width", width))
            for entry, (height, width) in zip(batched_inputs, images.image_sizes, strict=True)
        ]
        results = detections(
            logits, boxes, images.image_sizes, output_sizes, self.select_box_nums_for_evaluation
        )
        return [{"instances": instances} for instances in results]

    def losses(self, images: Tensor, mask: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Returns the weighted losses of one batch.

        Args:
            images: (B, 3, H, W), normalised and padded.
            mask: (B, H, W) bool, True = padding.
            targets: per image.
        """
        raise NotImplementedError

    def predictions(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what the last decoder layer predicts: tensors in, tensors out, for export.

        Args:
            images: (B, 3, H, W), normalised and padded.
            mask: (B, H, W) bool, True = padding.

        Returns:
            Class logits (B, Q, K) before sigmoid and boxes (B, Q, 4) cxcywh in [0, 1] of the
            unpadded image.
        """
        raise NotImplementedError

    def normalise(self, images: Tensor) -> Tensor:
        """Maps RGB images (..., 3, H, W) in 0 to 255 to what the backbone reads."""
        if self.input_format == "BGR":
            images = images.flip(-3)
        return (images - self.pixel_mean) / self.pixel_std

    def preprocess_images(self, batched_inputs: list[dict[str, Any]]) -> tuple[ImageList, Tensor]:
        """Normalises the images and pads them to one size with zeros (the mean colour).

        Args:
            batched_inputs: each with "image", (C, H, W) in RGB order, of any number type.

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
            [self.normalise(to_device(entry["image"], self.device)) for entry in batched_inputs]
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
        all_labels, all_boxes = [], []
        for entry in batched_inputs:
            if "instances" not in entry:
                raise ValueError(
                    f'{_name(entry)}: training needs "instances", which this image lacks. '
                    "Fix: build the data mapper with is_train=True"
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
                    f"num_classes={self.num_classes} (0 to {self.num_classes - 1}). Fix: set "
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
            all_labels.append(labels.to(torch.int64))
            all_boxes.append(boxes.to(torch.float32))
        counts = [len(labels) for labels in all_labels]
        all_labels = to_device(torch.cat(all_labels), self.device).split(counts)
        all_boxes = to_device(torch.cat(all_boxes), self.device).split(counts)
        return [
            {"labels": labels, "boxes": boxes}
            for labels, boxes in zip(all_labels, all_boxes, strict=True)
        ]


def detections(
    logits: Tensor,
    boxes: Tensor,
    image_sizes: list[tuple[int, int]],
    output_sizes: list[tuple[int, int]],
    max_detections: int,
) -> list[Instances]:
    """Takes the highest class scores over all queries; one query may give several detections.

    Source: Deformable DETR (arXiv:2010.04159), whose sigmoid classes need no background.

    Args:
        logits: (B, Q, K) before sigmoid.
        boxes: (B, Q, 4) cxcywh in [0, 1] of the unpadded image.
        image_sizes: (H, W) of each image as the detector saw it, without padding.
        output_sizes: (H, W) of each image to give the boxes in.
        max_detections: per image; fewer where Q * K is less.

    Returns:
        Per image, on the host, by falling score: `pred_boxes` (absolute xyxy, clipped to the image,
        empty ones dropped), `scores` in [0, 1], `pred_classes` and `pred_queries` (indices of the
        queries).
    """
    num_classes = logits.shape[-1]
    scores = logits.float().sigmoid().flatten(1)  # (B, Q * K)
    scores, entries = scores.topk(min(max_detections, scores.shape[1]), dim=1)
    queries = entries.div(num_classes, rounding_mode="floor")
    classes = entries % num_classes
    boxes_xyxy = box_convert(boxes.float(), "cxcywh", "xyxy")
    boxes_xyxy = boxes_xyxy.gather(1, queries[..., None].expand(-1, -1, 4))
    # In one transfer: to clip and to drop boxes takes several waits an image on a device.
    columns = (boxes_xyxy, *(x[..., None] for x in (scores, classes, queries)))
    found = to_host(torch.cat(columns, dim=-1))  # whole numbers are exact below 2**24
    results = []
    for image, (height, width) in enumerate(image_sizes):
        scale = torch.tensor([width, height, width, height])
        instances = Instances(
            (height, width),
            pred_boxes=Boxes(found[image, :, :4] * scale),
            scores=found[image, :, 4],
            pred_classes=found[image, :, 5].long(),
            pred_queries=found[image, :, 6].long(),
        )
        results.append(detector_postprocess(instances, *output_sizes[image]))
    return results


def level_masks(mask: Tensor, features: Sequence[Tensor]) -> list[Tensor]:
    """Returns the padding of each feature map: the image mask (B, H, W) sampled at its cells.

    Nearest sampling reads the pixel at a cell's top left corner, so that a cell which holds any
    row and column of the image stays valid and each level keeps at least one cell.
    """
    pixels = mask[:, None].float()
    return [F.interpolate(pixels, size=x.shape[-2:])[:, 0].bool() for x in features]


def require_equal(*pairs: tuple[str, int, str, int]) -> None:
    """Refuses sizes that must agree and do not, each pair as (name, value, other name, value).

    Raises:
        ValueError: naming both.
    """
    for name, value, other, found in pairs:
        if value != found:
            raise ValueError(f"{name}={value} but {other}={found}; they must be equal")


def _name(entry: dict[str, Any]) -> str:
    """Returns how an error message names an image."""
    return str(entry.get("file_name", "image without file_name"))
