"""Images with annotated objects, drawn from a generator. No time depends on what they show."""

from typing import Any

import torch
from detectron2.structures import Boxes, Instances


def drawn_batch(
    images: int, height: int, width: int, objects: int, num_classes: int
) -> list[dict[str, Any]]:
    """A batch as a training mapper gives it; the same arguments give the same batch.

    Args:
        images: how many.
        height: in pixels, of all.
        width: in pixels, of all.
        objects: annotated ones, in each image.
        num_classes: classes that are annotated.
    """
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.randint(256, (3, height, width), generator=generator).byte(),
            "instances": _objects(height, width, objects, num_classes, generator),
            "height": height,
            "width": width,
            "image_id": number,
            "file_name": f"drawn image {number}",
        }
        for number in range(images)
    ]


def _objects(
    height: int, width: int, count: int, num_classes: int, generator: torch.Generator
) -> Instances:
    # at least a hundredth of the image wide and high
    first, second = torch.rand(2, count, 2, generator=generator).sort(dim=0).values
    corners = torch.cat([first * 0.99, second * 0.99 + 0.01], dim=1)
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(corners * torch.tensor([width, height, width, height]))
    instances.gt_classes = torch.randint(num_classes, (count,), generator=generator)
    return instances
