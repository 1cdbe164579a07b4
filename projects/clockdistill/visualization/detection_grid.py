"""Grids of pictures with boxes: one row per image and one column per source, or just many."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeAlias

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from PIL import Image

from projects.clockdistill.visualization.detections import color_of

Color: TypeAlias = str | tuple[float, float, float]
_CAPTION_HEIGHT_PX = 9
_COLUMN, _WIDE_COLUMN = 5.0, 8.0  # inches
_IS_WIDE = 1.8  # width / height, from which a picture needs more of the page's width
_DPI = 110
_PAGE = 12  # rows of one file; Matplotlib refuses pictures of more than 65,535 pixels
_TITLE, _LEGEND = 0.22, 0.45  # inches

# Okabe and Ito's colours, which the colour-blind tell apart, too
_GREEN, _BLUE, _RED, _ORANGE, _GREY = "#009e73", "#0072b2", "#d55e00", "#e69f00", "#8c8c8c"


class Outcome(Enum):
    """What became of an object or a detection: colour, line, and how its caption is marked."""

    HIT = ("hit", _GREEN, "solid", "{}")
    MISS = ("missed object", _BLUE, "dashed", "[{}]")
    FALSE_ALARM = ("false alarm", _RED, "dotted", "! {}")
    WRONG_CLASS = ("wrong class", _ORANGE, "dashdot", "≠ {}")
    IGNORED = ("crowd or ignored region", _GREY, "solid", "{}", "///")

    def __init__(
        self, title: str, color: str, line: str, mark: str, hatch: str | None = None
    ) -> None:
        self.title = title
        self.color = color
        self.line = line
        self.mark = mark
        self.hatch = hatch

    @property
    def legend(self) -> str:
        """Its title, marked as captions are."""
        return self.mark.format(self.title)


@dataclass(frozen=True)
class DrawnBox:
    """One box of a picture.

    Attributes:
        xyxy_px: left, top, right, bottom in pixels of the image.
        label: index of its class.
        score: confidence in [0, 1]; None for ground truth.
        outcome: decides colour and line; None takes the colour of the class.
    """

    xyxy_px: tuple[float, float, float, float]
    label: int
    score: float | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Picture:
    """One cell of a grid.

    Attributes:
        pixels: (H, W, 3) uint8, RGB.
        boxes: drawn on it, the last over the others.
        title: above it.
        note: in its middle.
    """

    pixels: np.ndarray
    boxes: Sequence[DrawnBox] = ()
    title: str = ""
    note: str = ""


def save_detection_grid(
    path: Path,
    image_files: Sequence[Path],
    columns: Mapping[str, Sequence[Sequence[DrawnBox]]],
    class_names: Sequence[str],
) -> None:
    """Draws every image once per column, with that column's boxes.

    Args:
        path: the picture file to write.
        image_files: one per row.
        columns: title -> per image the boxes to draw.
        class_names: name of each label.
    """
    rows = []
    for number, file in enumerate(image_files):
        pixels = np.asarray(Image.open(file).convert("RGB"))
        rows.append(
            [
                Picture(pixels, images[number], title if number == 0 else "")
                for title, images in columns.items()
            ]
        )
    save_picture_grid(path, rows, class_names)


@matplotlib.rc_context({"text.parse_math": False})  # names may hold $
def save_picture_grid(
    path: Path,
    rows: Sequence[Sequence[Picture]],
    class_names: Sequence[str],
    legend: Sequence[Outcome] = (),
) -> None:
    """Draws pictures in rows; pictures of one row share its height.

    Args:
        path: the picture file to write.
        rows: at least one picture in each; the first row is the longest.
        class_names: name of each label.
        legend: outcomes to explain below the pictures.
    """
    ratios = [max(p.pixels.shape[0] / p.pixels.shape[1] for p in row) for row in rows]
    titles = [_TITLE * max(p.title.count("\n") + bool(p.title) for p in row) for row in rows]
    column_width = (
        _WIDE_COLUMN if is_wide([picture for row in rows for picture in row]) else _COLUMN
    )
    heights = [column_width * ratio for ratio in ratios]
    height = sum(heights) + sum(titles) + 0.1 * len(rows) + (_LEGEND if legend else 0)
    figure = Figure(figsize=(column_width * len(rows[0]), height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    axes = figure.subplots(
        len(rows), len(rows[0]), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for of_row, row in zip(axes, rows, strict=True):
        for axis, picture in zip(of_row, row, strict=False):
            _draw_picture(axis, picture, class_names)
    if legend:
        signs = [
            Patch(fill=False, ec=o.color, ls=o.line, lw=2, hatch=o.hatch, label=o.legend)
            for o in legend
        ]
        style = {"ncols": len(signs), "handlelength": 4, "handleheight": 1.6}
        figure.legend(handles=signs, loc="outside lower center", **style)
    figure.savefig(path, dpi=_DPI)


def save_picture_pages(
    path: Path,
    rows: Sequence[Sequence[Picture]],
    class_names: Sequence[str],
    legend: Sequence[Outcome] = (),
) -> list[Path]:
    """Draws as `save_picture_grid`, of many rows into several files, and returns these.

    Args:
        path: the first file; the second is called <stem>_2.
    """
    files = []
    for start in range(0, len(rows), _PAGE):
        number = start // _PAGE + 1
        files.append(path if number == 1 else path.with_stem(f"{path.stem}_{number}"))
        save_picture_grid(files[-1], rows[start : start + _PAGE], class_names, legend)
    return files


def is_wide(pictures: Sequence[Picture]) -> bool:
    """Returns whether pictures are so wide that few fit next to each other."""
    return np.median([p.pixels.shape[1] / p.pixels.shape[0] for p in pictures]) > _IS_WIDE


def _draw_picture(axis: Axes, picture: Picture, class_names: Sequence[str]) -> None:
    axis.imshow(picture.pixels, interpolation="nearest")
    axis.set_title(picture.title, fontsize=9)
    ignored = defaultdict(set)  # a region may be ignored for several classes
    for box in picture.boxes:
        if box.outcome is Outcome.IGNORED:
            ignored[box.xyxy_px].add(class_names[box.label])
    for corners, names in ignored.items():
        what = f": {names.pop()}" if len(names) == 1 else ""
        _draw_box(axis, corners, Outcome.IGNORED.color, f"ignored{what}", Outcome.IGNORED)
    for box in picture.boxes:
        if box.outcome is not Outcome.IGNORED:
            _draw_box(axis, box.xyxy_px, *_color_and_caption(box, class_names), box.outcome)
    if picture.note:
        style = {"facecolor": "black", "edgecolor": "none", "alpha": 0.7}
        place = {"transform": axis.transAxes, "ha": "center", "va": "center"}
        axis.text(0.5, 0.5, picture.note, color="white", fontsize=9, bbox=style, **place)


def _color_and_caption(box: DrawnBox, class_names: Sequence[str]) -> tuple[Color, str]:
    caption = class_names[box.label]
    if box.score is not None:
        caption += f" {box.score:.2f}"
    if box.outcome is not None:
        return box.outcome.color, box.outcome.mark.format(caption)
    red, green, blue = color_of(box.label)
    return (red / 255, green / 255, blue / 255), caption


def _draw_box(
    axis: Axes,
    corners: tuple[float, float, float, float],
    color: Color,
    caption: str,
    outcome: Outcome | None,
) -> None:
    left, top, right, bottom = corners
    box = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, lw=1.3)
    if outcome is not None:
        box.set(linestyle=outcome.line, hatch=outcome.hatch)
    axis.add_patch(box)
    width = axis.get_xlim()[1]
    is_at_the_right = left > 0.85 * width
    axis.text(
        min(right, width) if is_at_the_right else max(left, 0),  # not cut by the border
        top,
        caption,
        fontsize=6.5,
        color="white",
        ha="right" if is_at_the_right else "left",
        va="bottom" if top > _CAPTION_HEIGHT_PX else "top",  # nothing is drawn outside the picture
        clip_on=True,
        bbox={"facecolor": color, "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
    )
