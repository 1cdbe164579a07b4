"""The table of a dataset: images, objects per class, sizes, and what was left out or changed."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from tabulate import tabulate

from projects.clockdistill.data.annotations import Annotations
from projects.clockdistill.data.findings import Findings

SMALL, LARGE = 32**2, 96**2  # COCO's area limits, square pixels
_CLASSES, _SIZES = 100, 8  # rows; the others are summed


def dataset_table(
    found: Annotations, classes: Sequence[str], findings: Findings, title: str
) -> str:
    """Formats a dataset.

    Args:
        found: its annotations; what is malformed is not among them.
        classes: their names.
        findings: its counts become rows.
        title: head of the first column.
    """
    area = _visible_area(found)
    used = ~found.is_crowd & (area > 0)
    images = len(found.sizes)
    rows: list[list] = [
        ["images", images],
        ["images without objects", images - len(np.unique(found.images[used]))],
        _objects("objects", found, area, used),
    ]
    order = range(len(classes))
    if len(classes) > _CLASSES:
        numbers = np.bincount(found.classes[used], minlength=len(classes))
        order = np.argsort(-numbers, kind="stable")[:_CLASSES].tolist()
    rows += [_objects(f"- {classes[i]}", found, area, used & (found.classes == i)) for i in order]
    if len(classes) > _CLASSES:
        rest = used & ~np.isin(found.classes, order)
        rows.append(_objects(f"- {len(classes) - _CLASSES} other classes", found, area, rest))
    rows += _size_rows(found)
    rows += [[what, number] for what, number in findings.counts.items()]
    headers = [title, "number", "in images", "small", "medium", "large"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=[0], missingval="")


def _visible_area(found: Annotations) -> np.ndarray:
    """Returns the area of each box inside its image, (N,) square pixels; 0 if there is none."""
    corners = found.visible_boxes()
    sides = np.clip(corners[:, 2:] - corners[:, :2], 0, None)
    return sides.prod(axis=1)


def _objects(name: str, found: Annotations, area: np.ndarray, which: np.ndarray) -> list:
    small, large = int((area[which] < SMALL).sum()), int((area[which] > LARGE).sum())
    number = int(which.sum())
    images = len(np.unique(found.images[which]))
    return [name, number, images, small, number - small - large, large]


def _size_rows(found: Annotations) -> list[list]:
    sizes = Counter(map(tuple, found.sizes.astype(int).tolist())).most_common()
    shown = sizes if len(sizes) <= _SIZES else sizes[: _SIZES - 1]
    rows = [[f"images of {width} x {height}", number] for (width, height), number in shown]
    if others := sizes[len(shown) :]:
        number = sum(number for _, number in others)
        rows.append([f"images of {len(others)} other sizes", number])
    return rows
