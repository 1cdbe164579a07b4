"""Objects of the splits of a dataset as arrays, and the table that compares the splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from projects.clockdistill.data.annotations import Annotations
from projects.clockdistill.data.dataset_table import LARGE, SMALL

_CLASSES = 100  # rows; the others are summed


@dataclass(frozen=True)
class SplitObjects:
    """The N objects of M images that can be trained on: inside their image, no crowd.

    Attributes:
        boxes_xyxy: (N, 4) float64 in pixels of the image file, clipped to it.
        images: (N,) int64, index of the image.
        classes: (N,) int64.
        sizes: (M, 2) float64, width and height of each image in pixels.
        crowds: number of crowd boxes, which are not among the objects.
    """

    boxes_xyxy: np.ndarray
    images: np.ndarray
    classes: np.ndarray
    sizes: np.ndarray
    crowds: int

    @classmethod
    def of(cls, found: Annotations) -> "SplitObjects":
        """Selects the objects among all annotations of a split."""
        boxes = found.visible_boxes()
        used = ~found.is_crowd & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        crowds = int(found.is_crowd.sum())
        return cls(boxes[used], found.images[used], found.classes[used], found.sizes, crowds)

    @property
    def widths_and_heights(self) -> np.ndarray:
        """Sides of the boxes, (N, 2) pixels."""
        return self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]

    @property
    def areas(self) -> np.ndarray:
        """Areas of the boxes, (N,) square pixels."""
        return self.widths_and_heights.prod(axis=1)

    @property
    def per_image(self) -> np.ndarray:
        """Number of objects of each image, (M,)."""
        return np.bincount(self.images, minlength=len(self.sizes))

    @property
    def centers(self) -> np.ndarray:
        """Centres of the boxes, (N, 2) x and y in [0, 1] of the image."""
        middle = (self.boxes_xyxy[:, :2] + self.boxes_xyxy[:, 2:]) / 2
        return middle / self.sizes[self.images]


def class_counts(splits: Mapping[str, SplitObjects], num_classes: int) -> dict[str, np.ndarray]:
    """Returns per split the number of objects of each class, (num_classes,)."""
    return {
        name: np.bincount(split.classes, minlength=num_classes) for name, split in splits.items()
    }


def statistics_table(
    splits: Mapping[str, SplitObjects], class_names: Sequence[str], queries: int | None
) -> str:
    """Formats splits next to each other: numbers, and shares of a split's objects in percent.

    Args:
        splits: name -> its objects; the first decides the order of the classes.
        class_names: name of each class; the 100 most frequent are shown.
        queries: of the detector; None leaves them out.
    """
    counts = class_counts(splits, len(class_names))
    order = np.argsort(-next(iter(counts.values())), kind="stable")
    rows = [
        ["images", *(len(split.sizes) for split in splits.values())],
        ["images without objects", *(int((s.per_image == 0).sum()) for s in splits.values())],
        ["objects", *(len(split.classes) for split in splits.values())],
        ["crowd boxes, not trained on", *(split.crowds for split in splits.values())],
        [
            "most objects in one image" + (f" (queries: {queries})" if queries else ""),
            *(split.per_image.max(initial=0) for split in splits.values()),
        ],
    ]
    areas = [split.areas for split in splits.values()]
    rows += [
        ["small, below 32 x 32", *(_share((a < SMALL).sum(), len(a)) for a in areas)],
        ["medium", *(_share(((a >= SMALL) & (a <= LARGE)).sum(), len(a)) for a in areas)],
        ["large, above 96 x 96", *(_share((a > LARGE).sum(), len(a)) for a in areas)],
    ]
    shown, others = order[:_CLASSES], order[_CLASSES:]
    rows += [
        [f"- {class_names[index]}", *(_share(of[index], of.sum()) for of in counts.values())]
        for index in shown
    ]
    if len(others):
        rest = [_share(of[others].sum(), of.sum()) for of in counts.values()]
        rows.append([f"- {len(others)} other classes", *rest])
    return tabulate(
        rows, ["", *splits], tablefmt="github", disable_numparse=True, colalign=_align(len(splits))
    )


def _align(splits: int) -> list[str]:
    return ["left", *["right"] * splits]


def _share(number: int, total: int) -> str:
    """Returns a number and its share of all."""
    return f"{number} ({number / total:5.1%})" if total else f"{number}"
