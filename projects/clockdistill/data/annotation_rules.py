"""Rules for the annotations of any dataset, and for training and validation data together."""

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np
from detectron2.data.catalog import Metadata

from projects.clockdistill.data.annotations import (
    DROPPED,
    MIN_SIZE,
    Annotations,
    collect_annotations,
    repeated_ids,
)
from projects.clockdistill.data.findings import Findings, some

_SUSPICIOUS_SHARE = 0.1  # of the boxes, from which another format of boxes is asked about
_HUGE = 2  # times the image's width or height


def check_annotations(dicts: Sequence[dict], metadata: Metadata, findings: Findings) -> Annotations:
    """Judges the annotations of a dataset, whichever reader they came from.

    Args:
        dicts: detectron2's dataset dicts.
        metadata: of the dataset, with `thing_classes`.
        findings: gets errors, warnings and counts; the messages do not name the dataset.

    Returns:
        All annotations that are well formed.
    """
    classes = list(metadata.thing_classes)
    if repeated := [name for name, count in Counter(classes).items() if count > 1]:
        findings.warn(
            f"several classes have the name {some(repeated)}, whose AP would be that of the last. "
            "Fix: rename or merge them."
        )
    files = [record.get("file_name") for record in dicts if isinstance(record, dict)]
    findings.count("images that are listed before", len(files) - len(set(map(str, files))))
    found = collect_annotations(dicts, len(classes), findings)
    for record in dicts:
        if isinstance(record, dict) and DROPPED in record:
            for reason, number in record[DROPPED].items():
                findings.count(reason, number)
    if repeated := repeated_ids(dicts):
        findings.warn(
            f"several images have the image_id {some(repeated)}, which training does not mind and "
            "evaluation refuses. Fix: give each image an id of its own."
        )
    findings.count("crowd boxes, not trained on", int(found.is_crowd.sum()))
    objects = found.select(~found.is_crowd)
    is_own_file = bool(getattr(metadata, "json_file", None))
    usable = _check_extent(objects, findings, is_own_file)
    if len(usable):
        _check_format(objects, findings)
    if not usable.any():
        if not findings.errors:
            findings.error(
                f"no usable object in {len(dicts)} images ({len(found.images)} annotations). "
                "Fix: give boxes with iscrowd 0 that lie inside their images."
            )
        return found
    counts = np.bincount(objects.classes[usable], minlength=len(classes))
    if absent := [name for name, count in zip(classes, counts, strict=True) if not count]:
        findings.warn(
            f"{len(absent)} of {len(classes)} classes have no object: {some(absent)}. "
            "Fix: add examples or remove the classes."
        )
    return found


def _check_format(found: Annotations, findings: Findings) -> None:
    """Warns of boxes that look like those of another format or scale."""
    left, top, right, bottom = found.boxes_xyxy.T
    width, height = right - left, bottom - top
    image_width, image_height = found.sizes[found.images].T
    is_inside = (left >= 0) & (top >= 0)
    # x1, y1, x2, y2 read as x, y, width, height: too large as the latter, right as the former
    overhangs = (right > image_width + 1) | (bottom > image_height + 1)
    fits = (width > left) & (height > top)
    fits &= (width <= image_width + 1) & (height <= image_height + 1)
    asked = _ask(
        found.is_xywh & is_inside & overhangs & fits,
        "overhang the image as x, y, width, height and fit as x1, y1, x2, y2: "
        "are these x1, y1, x2, y2? Fix: convert them to x, y, width, height",
        findings,
    )
    # and the reverse: x2 left of x1, or y2 above y1
    fits = (right > 0) & (bottom > 0)
    fits &= (left + right <= image_width + 1) & (top + bottom <= image_height + 1)
    _ask(
        ~found.is_xywh & is_inside & ((right <= left) | (bottom <= top)) & fits,
        "are empty as x1, y1, x2, y2 and fit as x, y, width, height: "
        "are these x, y, width, height? Fix: give bbox_mode=BoxMode.XYWH_ABS",
        findings,
    )
    _ask(
        (np.abs(found.boxes_xyxy) <= 2).all(axis=1)
        & (np.stack([width, height]) <= 1).all(axis=0)
        & (np.stack([image_width, image_height]) > 2).all(axis=0),
        "are at most one pixel large and lie in the image's corner: are these normalised to "
        "[0, 1]? Fix: multiply them by the image's width and height",
        findings,
    )
    scale = (
        "do boxes and images have the same scale? Fix: give the boxes in pixels of the image file"
    )
    asked |= _ask(
        (width > _HUGE * image_width) | (height > _HUGE * image_height),
        f"are more than {_HUGE} times as large as their image: {scale}",
        findings,
        share=0.0,
    )
    if not asked:
        overhangs |= (left < -1) | (top < -1)
        _ask(overhangs, f"overhang their image by more than a pixel: {scale}", findings)


def _ask(
    which: np.ndarray, what: str, findings: Findings, share: float = _SUSPICIOUS_SHARE
) -> bool:
    """Warns if at least a share of the boxes are suspicious; returns whether it does."""
    number = int(which.sum())
    if not number or number < share * len(which):
        return False
    percent = 100 * number / len(which)
    findings.warn(f"{number} of {len(which)} boxes ({percent:.1f}%) {what}.")
    return True


def _check_extent(found: Annotations, findings: Findings, is_own_file: bool) -> np.ndarray:
    """Counts boxes that overhang their image or have no pixel of it; returns the others' mask.

    Args:
        found: objects.
        findings: gets the counts.
        is_own_file: whether the dataset is evaluated on its file as it is.
    """
    left, top, right, bottom = found.boxes_xyxy.T
    image_width, image_height = found.sizes[found.images].T
    is_empty = np.minimum(right - left, bottom - top) < MIN_SIZE
    visible_width = np.minimum(right, image_width) - np.maximum(left, 0)
    visible_height = np.minimum(bottom, image_height) - np.maximum(top, 0)
    is_outside = (np.minimum(visible_width, visible_height) < MIN_SIZE) & ~is_empty
    overhangs = (left < 0) | (top < 0) | (right > image_width) | (bottom > image_height)
    findings.count("boxes without width or height, not trained on", int(is_empty.sum()))
    findings.count("boxes outside their image, not trained on", int(is_outside.sum()))
    clipped = "boxes clipped to their image"
    if is_own_file:
        clipped += " for training, not for evaluation"
    findings.count(clipped, int((overhangs & ~is_empty & ~is_outside).sum()))
    return ~is_empty & ~is_outside


def shared_images(train_dicts: Sequence[dict], val_dicts: Sequence[dict]) -> list[str]:
    """Returns the validation images that are also training images: links and paths resolved."""
    train = {_file_key(record["file_name"]) for record in train_dicts}
    return [record["file_name"] for record in val_dicts if _file_key(record["file_name"]) in train]


def _file_key(path: str) -> tuple[int, int] | str:
    """Returns what two paths of one file share; the path where there is no file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return path
    return status.st_dev, status.st_ino


def unmatched_objects(dicts: Sequence[dict], queries: int) -> int:
    """Returns how many objects cannot be matched, because their image has more than queries."""
    objects = (
        sum(not item.get("iscrowd", 0) for item in record.get("annotations", ()))
        for record in dicts
    )
    return sum(max(number - queries, 0) for number in objects)
