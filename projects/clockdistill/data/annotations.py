"""The annotations of a whole dataset as arrays, and what is no annotation at all."""

import math
import numbers
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from projects.clockdistill.data.findings import Findings, some

# Keys that this project's readers add to detectron2's dicts:
UNCLIPPED = "unclipped_bbox"  # of an annotation: its box in the file, where that was clipped
DROPPED = "dropped"  # of an image: why annotations of the file are missing here -> how many

MAX_COORDINATE = 1e9  # pixels; float32 does not tell larger ones apart, and no image has them
# Pixels; thinner boxes are empty. In float32, as in training, coordinates near 8192 have this step.
MIN_SIZE = 1e-3
_PLAIN = {int, float}


@dataclass(frozen=True)
class Annotations:
    """The N annotations of a dataset of M images, in the dataset's order.

    Attributes:
        boxes_xyxy: (N, 4) float64, pixels, as given: neither clipped nor sorted.
        images: (N,) int64, index of the image.
        classes: (N,) int64.
        is_xywh: (N,) bool, whether the dataset gave the box as left, top, width, height.
        is_crowd: (N,) bool.
        sizes: (M, 2) float64, width and height of each image in pixels.
    """

    boxes_xyxy: np.ndarray
    images: np.ndarray
    classes: np.ndarray
    is_xywh: np.ndarray
    is_crowd: np.ndarray
    sizes: np.ndarray

    def select(self, mask: np.ndarray) -> "Annotations":
        """Returns the annotations of a mask (N,), of the same images."""
        arrays = (self.boxes_xyxy, self.images, self.classes, self.is_xywh, self.is_crowd)
        return Annotations(*(array[mask] for array in arrays), self.sizes)

    def visible_boxes(self) -> np.ndarray:
        """Returns the part of each box inside its image, (N, 4) xyxy pixels; it may be empty."""
        return np.clip(self.boxes_xyxy, 0, np.tile(self.sizes, 2)[self.images])


def collect_annotations(dicts: Sequence[dict], num_classes: int, findings: Findings) -> Annotations:
    """Reads detectron2's dataset dicts; what is malformed becomes errors and is left out.

    Args:
        dicts: as detectron2's catalog returns them.
        num_classes: classes are 0 to `num_classes` - 1.
        findings: gets one error for each kind of fault, with the places of the first.
    """
    faults: dict[tuple[str, str], list[str]] = defaultdict(list)  # (what, fix) -> places
    sizes = np.ones((len(dicts), 2))
    boxes, modes, images, classes, crowds = [], [], [], [], []
    for index, record in enumerate(dicts):
        if fault := _fault_of_image(record):
            faults[fault].append(_place(index, record))
            continue
        sizes[index] = record["width"], record["height"]
        for number, item in enumerate(record.get("annotations", ())):
            if fault := _fault_of_annotation(item, num_classes):
                faults[fault].append(f"{_place(index, record)} annotations[{number}]")
                continue
            boxes.append(item.get(UNCLIPPED) or item["bbox"])
            modes.append(item["bbox_mode"])
            images.append(index)
            classes.append(item["category_id"])
            crowds.append(item.get("iscrowd") or 0)
    for (what, fix), places in faults.items():
        findings.error(f"{what}: {some(places)}. Fix: {fix}.")
    boxes_xyxy = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    is_xywh = np.array(modes, dtype=np.int64) == BoxMode.XYWH_ABS.value
    boxes_xyxy[is_xywh, 2:] += boxes_xyxy[is_xywh, :2]
    return Annotations(
        boxes_xyxy,
        np.array(images, dtype=np.int64),
        np.array(classes, dtype=np.int64),
        is_xywh,
        np.array(crowds, dtype=bool),
        sizes,
    )


def inside_image(item: dict, width: int, height: int) -> list[float] | None:
    """Returns the part of an annotation's box that lies inside the image, as xywh in pixels.

    A box that lies inside already keeps its numbers.

    Args:
        item: annotation of detectron2's dataset dicts.
        width: of the image, in pixels.
        height: of the image, in pixels.

    Returns:
        None if the box has no pixel of the image.
    """
    box = [float(edge) for edge in item["bbox"]]
    if item["bbox_mode"] != BoxMode.XYWH_ABS:
        box = BoxMode.convert(box, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        box = [round(edge, 3) for edge in box]  # 0.3 - 0.1 is 0.2 and no 0.19999999999999998
    return clip_xywh(box, width, height)


def clip_xywh(box: Sequence[float], width: int, height: int) -> list[float] | None:
    """Returns the part of a box (xywh, pixels) inside an image; None if there is none."""
    left, top = max(box[0], 0), max(box[1], 0)
    right, bottom = min(box[0] + box[2], width), min(box[1] + box[3], height)
    if right - left < MIN_SIZE or bottom - top < MIN_SIZE:
        return None
    # Sums of floats are rounded: only edges that were moved are computed again.
    is_moved_x = left != box[0] or right != box[0] + box[2]
    is_moved_y = top != box[1] or bottom != box[1] + box[3]
    return [
        left,
        top,
        right - left if is_moved_x else box[2],
        bottom - top if is_moved_y else box[3],
    ]


def is_box(box: Any) -> bool:
    """Returns whether a value is four finite numbers that can be pixels."""
    if hasattr(box, "tolist"):  # an array or a tensor
        box = box.tolist()
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        return False
    if not {type(edge) for edge in box} <= _PLAIN and not all(map(is_number, box)):
        return False
    return all(-MAX_COORDINATE <= edge <= MAX_COORDINATE for edge in box)  # False for NaN


def is_id(value: Any) -> bool:
    """Returns whether a value can tell images or categories apart: text or a finite number."""
    return isinstance(value, str) or (is_number(value) and -math.inf < value < math.inf)


def is_size(value: Any) -> bool:
    """Returns whether a value is a positive whole number of pixels."""
    return is_number(value) and 1 <= value <= MAX_COORDINATE and value == int(value)


def is_area(value: Any) -> bool:
    """Returns whether a value is a number of square pixels; None is the default, the box's."""
    return value is None or (is_number(value) and 0 <= value <= MAX_COORDINATE**2)


def is_flag(value: Any) -> bool:
    """Returns whether a value says no or yes: 0, 1 or a bool."""
    return isinstance(value, numbers.Real) and value in (0, 1)


def repeated_ids(dicts: Sequence[Any]) -> list[Any]:
    """Returns the ids that more than one image has; of equal numbers, the first."""
    ids = (record.get("image_id") for record in dicts if isinstance(record, dict))
    return [id_ for id_, count in Counter(filter(is_id, ids)).items() if count > 1]


def is_number(value: Any) -> bool:
    """Returns whether a value is a real number, which a bool is not."""
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))


def _place(index: int, record: Any) -> str:
    name = record.get("file_name") if isinstance(record, dict) else None
    return f"images[{index}]" + (f" ({name})" if name else "")


def _fault_of_image(record: Any) -> tuple[str, str] | None:
    """Returns what is wrong with an image's dict, without its annotations, and the fix."""
    if not isinstance(record, dict):
        return "images that are no dict", "return detectron2's dataset dicts"
    if not isinstance(record.get("file_name"), (str, os.PathLike)):
        return "images whose file_name is missing or no text", "give each image its file"
    if not is_id(record.get("image_id")):
        return "images whose image_id is missing or neither text nor number", "number the images"
    if not is_size(record.get("width")) or not is_size(record.get("height")):
        return "images whose width or height is no whole number of pixels", "give both in pixels"
    if not isinstance(record.get("annotations", ()), (list, tuple)):
        return "images whose annotations are no list", "give [] for an image without objects"
    return None


def _fault_of_annotation(item: Any, num_classes: int) -> tuple[str, str] | None:
    """Returns what is wrong with an annotation, and the fix."""
    if not isinstance(item, dict):
        return "annotations that are no dict", "return detectron2's dataset dicts"
    if not is_box(item.get("bbox")):
        return "boxes that are not four finite numbers in pixels", "correct or remove them"
    if item.get("bbox_mode") not in (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS):
        return (
            "boxes whose bbox_mode is missing or unknown",
            "give BoxMode.XYXY_ABS or BoxMode.XYWH_ABS, in pixels",
        )
    label = item.get("category_id")
    if not is_number(label) or not 0 <= label < num_classes or label != int(label):
        return (
            f"annotations whose category_id is not one of 0 to {num_classes - 1}",
            "give the index of a name in thing_classes",
        )
    if not is_flag(item.get("iscrowd") or 0):
        return "annotations whose iscrowd is neither 0 nor 1", "give 1 for regions to ignore"
    if not is_area(item.get("area")):
        return "annotations whose area is no number of square pixels", "correct or remove it"
    return None
