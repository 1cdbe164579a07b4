"""Picture grid with one row per image and one column per source of boxes (detectors, truth)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

CAPTION_HEIGHT_PX = 9
COLUMN_WIDTH = 5.0  # inches


@dataclass(frozen=True)
class DrawnBox:
    """One box of a picture.

    Attributes:
        xyxy_px: left, top, right, bottom in pixels of the image.
        label: index of its class.
        score: confidence in [0, 1]; None for ground truth.
    """

    xyxy_px: tuple[float, float, float, float]
    label: int
    score: float | None = None


def save_detection_grid(
    path: Path,
    image_files: Sequence[Path],
    columns: dict[str, Sequence[Sequence[DrawnBox]]],
    class_names: Sequence[str],
    colormap: Colormap,
) -> None:
    """Draws every image once per column, with that column's boxes.

    Args:
        path: the picture file to write.
        image_files: one per row.
        columns: title -> per image the boxes to draw.
        class_names: name of each label.
        colormap: gives each class its colour.
    """
    pictures = [np.asarray(Image.open(file).convert("RGB")) for file in image_files]
    shapes = np.array([picture.shape[:2] for picture in pictures])
    heights = COLUMN_WIDTH * shapes[:, 0] / shapes[:, 1]
    width = COLUMN_WIDTH * len(columns)
    figure = Figure(figsize=(width, heights.sum() + 0.4), layout="constrained")
    axes = figure.subplots(
        len(pictures), len(columns), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for column, (title, images) in enumerate(columns.items()):
        axes[0, column].set_title(title)
        for axis, picture, boxes in zip(axes[:, column], pictures, images, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
            for box in boxes:
                _draw(axis, box, class_names, colormap(box.label))
    figure.savefig(path, dpi=110)


def _draw(axis, box: DrawnBox, class_names: Sequence[str], color: tuple) -> None:
    left, top, right, bottom = box.xyxy_px
    axis.add_patch(
        Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, lw=1.3)
    )
    caption = class_names[box.label]
    if box.score is not None:
        caption += f" {box.score:.2f}"
    axis.text(
        left,
        top,
        caption,
        fontsize=5.5,
        color="white",
        va="bottom" if top > CAPTION_HEIGHT_PX else "top",  # nothing is drawn outside the picture
        clip_on=True,
        bbox={"facecolor": color, "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
    )
