"""Checks of a whole KITTI folder tree: all its problems, and tables of its content."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from tabulate import tabulate

from projects.clockdistill.data.image_header import ImageError
from projects.clockdistill.data.image_pixels import check_image
from projects.clockdistill.data.kitti_labels import OFFICIAL_TYPES
from projects.clockdistill.data.kitti_tree import KittiFrame, TreeReport, scan_tree

_SMALL, _LARGE = 32**2, 96**2  # COCO's area limits, square pixels


def check_tree(root: Path) -> TreeReport:
    """Checks a KITTI tree completely; unexpected files count as problems.

    Headers and ends of the images are read, and the checksums of PNG files.

    Args:
        root: folder that contains `training/`.

    Raises:
        FileNotFoundError: if the image or label folder is missing.
    """
    report = scan_tree(root)
    problems = [
        f"{path}: unexpected file or folder. Fix: move it away." for path in report.unexpected
    ]
    problems += report.problems
    for frame in report.frames:
        problems += _image_problems(frame.image_path)
    return replace(report, problems=tuple(problems))


def _image_problems(path: Path) -> list[str]:
    try:
        check_image(path)
        with Image.open(path) as image:
            image.verify()
    except ImageError as error:
        return [str(error)]
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
