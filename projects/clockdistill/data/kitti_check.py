"""Checks of a whole KITTI folder tree: all its problems, and tables of its content."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tabulate import tabulate

from projects.clockdistill.data.kitti_labels import OFFICIAL_TYPES
from projects.clockdistill.data.kitti_tree import (
    KittiFrame,
    list_tree,
    missing_partners,
    read_frame,
)

_SMALL, _LARGE = 32**2, 96**2  # COCO's area limits, square pixels


@dataclass(frozen=True)
class TreeReport:
    """Result of a check.

    Attributes:
        frames: all frames whose image header and label file could be read.
        problems: one message each, with path and fix.
    """

    frames: tuple[KittiFrame, ...]
    problems: tuple[str, ...]


def check_tree(root: Path, decode: bool = False) -> TreeReport:
    """Checks a KITTI tree completely.

    Args:
        root: folder that contains `training/`.
        decode: whether to decode every image. If False, a PNG's checksums are verified, which
            finds truncated files, but only the header of a JPEG is read.

    Raises:
        FileNotFoundError: if the image or label folder is missing.
    """
    listing = list_tree(root)
    problems = [
        f"{path}: unexpected file or folder. Fix: move it away." for path in listing.unexpected
    ]
    problems += missing_partners(listing)
    if not listing.images:
        problems.append(f"{root}: no images")
    frames = []
    for index, (name, image_path) in enumerate(sorted(listing.images.items())):
        if name not in listing.labels:
            continue
        frame, frame_problems = read_frame(name, index, image_path, listing.labels[name])
        problems += frame_problems
        if frame:
            frames.append(frame)
            problems += _image_problems(image_path, decode)
    return TreeReport(tuple(frames), tuple(problems))


def _image_problems(path: Path, decode: bool) -> list[str]:
    try:
        with Image.open(path) as image:
            if decode:
                image.load()
            else:
                image.verify()
    except (OSError, SyntaxError, ValueError) as error:  # Pillow uses all three for broken files
        return [f"unreadable image {path}: {error}. Fix: restore the file."]
    return []


def type_table(frames: Sequence[KittiFrame]) -> str:
    """Formats object counts, COCO's small / medium / large and box heights (px) per KITTI type."""
    rows = []
    for name in OFFICIAL_TYPES:
        boxes = np.array([o.box_xyxy for frame in frames for o in frame.objects if o.type == name])
        if len(boxes) == 0:
            rows.append([name, 0])
            continue
        heights = boxes[:, 3] - boxes[:, 1]
        areas = heights * (boxes[:, 2] - boxes[:, 0])
        small, large = int((areas < _SMALL).sum()), int((areas > _LARGE).sum())
        medium = len(boxes) - small - large
        percentiles = np.percentile(heights, (5, 50, 95)).tolist()
        rows.append([name, len(boxes), small, medium, large, *percentiles])
    headers = ["type", "objects", "small", "medium", "large", "height 5%", "50%", "95% (px)"]
    return tabulate(rows, headers, tablefmt="github", floatfmt=".0f")


def image_table(frames: Sequence[KittiFrame]) -> str:
    """Formats the image sizes and how many images have each, most frequent first."""
    sizes = Counter((frame.width, frame.height) for frame in frames)
    rows = [[f"{width} x {height}", count] for (width, height), count in sizes.most_common()]
    return tabulate(rows, ["image size", "images"], tablefmt="github")
