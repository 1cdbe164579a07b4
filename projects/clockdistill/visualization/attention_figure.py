"""A figure of maps and sampling points on one image: one column per detector."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

COLORS = colormaps["inferno"]  # perceptually uniform
_WIDTH, _HEIGHT = 5.5, 4.5  # inches that a panel may take at most
_TALLEST = 40.0  # inches of a whole figure
_HIGHEST = 99.8  # percentile of the pixels that has the brightest colour


@dataclass(frozen=True)
class Box:
    """A box on a panel.

    Attributes:
        xyxy_px: left, top, right, bottom in pixels of the image.
        color: (red, green, blue), 0 to 255.
        caption: written above it; may be empty.
    """

    xyxy_px: Sequence[float]
    color: tuple[int, int, int]
    caption: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture of a figure; has a map, or points, or neither.

    Attributes:
        title: above it, lines of at most about 80 characters.
        heat: (H, W) of the image.
        points_px: (N, 2) as (x, y) in pixels of the image; those outside are drawn at its border.
        weights: (N,) of the points.
        boxes: drawn over the map.
        cross_px: (x, y) of a point to mark.
    """

    title: str
    heat: np.ndarray | None = None
    points_px: np.ndarray | None = None
    weights: np.ndarray | None = None
    boxes: Sequence[Box] = ()
    cross_px: tuple[float, float] | None = None


@dataclass(frozen=True)
class Row:
    """Panels that share a scale of colours.

    Attributes:
        label: of the colour bar, with the unit.
        panels: one for each column.
        from_zero: whether the darkest colour stands for 0, or for the lowest value.
    """

    label: str
    panels: Sequence[Panel]
    from_zero: bool = True


def save_figure(path: Path, heading: str, image: np.ndarray, rows: Sequence[Row]) -> None:
    """Draws all rows.

    Args:
        path: the picture file to write.
        heading: above all panels.
        image: (H, W, 3) uint8, RGB.
        rows: at least one, each with the same number of panels.
    """
    height, width = image.shape[:2]
    columns = len(rows[0].panels)
    lines = [max(panel.title.count("\n") + 1 for panel in row.panels) for row in rows]
    text = 0.16 * sum(lines) + 0.1 * len(rows)  # inches
    tall = min(_WIDTH * height / width, _HEIGHT, (_TALLEST - text) / len(rows))
    wide = max(tall * width / height, 2.2)
    heading_lines = heading.count("\n") + 1
    figure = Figure(
        figsize=(wide * columns + 0.9, (tall + 0.05) * len(rows) + text + 0.2 * heading_lines),
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, hspace=0.0, wspace=0.0)
    figure.suptitle(heading, fontsize=9)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, row in zip(grid, rows, strict=True):
        scale = _scale(row)
        for axis, panel in zip(axes, row.panels, strict=True):
            _draw(axis, image, panel, scale)
        if scale is not None:
            bar = figure.colorbar(ScalarMappable(scale, COLORS), ax=list(axes), pad=0.01, aspect=12)
            bar.set_label(row.label, fontsize=7)
            bar.ax.tick_params(labelsize=6)
    figure.savefig(path, dpi=150)


def _scale(row: Row) -> Normalize | None:
    """Returns the colours that all panels of a row share; None where there is nothing to colour."""
    highest = [np.percentile(p.heat, _HIGHEST) for p in row.panels if p.heat is not None]
    highest += [p.weights.max() for p in row.panels if p.weights is not None and len(p.weights)]
    if not highest:
        return None
    low = 0.0
    if not row.from_zero:
        low = min(panel.heat.min() for panel in row.panels if panel.heat is not None)
    return Normalize(low, max(*highest, low + 1e-9))


def _draw(axis: Axes, image: np.ndarray, panel: Panel, scale: Normalize | None) -> None:
    height, width = image.shape[:2]
    extent = (0, width, height, 0)  # a pixel's corner, not its centre, has whole coordinates
    grey = image.mean(-1, keepdims=True).repeat(3, -1) / 255
    axis.set_title(panel.title, fontsize=7.5, pad=2)
    axis.set_axis_off()
    if panel.heat is not None:
        colors = COLORS(scale(panel.heat))[..., :3]
        axis.imshow(0.35 * grey + 0.65 * colors, extent=extent)
    elif panel.points_px is not None:
        axis.imshow(0.45 * grey, extent=extent)
        _draw_points(axis, panel.points_px, panel.weights, scale, (width, height))
    else:
        axis.imshow(0.45 * grey, extent=extent)
    for box in panel.boxes:
        _draw_box(axis, box)
    if panel.cross_px is not None:
        axis.plot(*panel.cross_px, "+", color="cyan", ms=9, mew=1.4)
    axis.set(xlim=(0, width), ylim=(height, 0))


def _draw_points(
    axis: Axes, points_px: np.ndarray, weights: np.ndarray, scale: Normalize, size: tuple[int, int]
) -> None:
    """Draws the points, the heaviest last; those outside of the image as crosses at its border."""
    order = np.argsort(weights, kind="stable")
    points_px, weights = points_px[order], weights[order]
    inside = ((points_px >= 0) & (points_px <= size)).all(-1)
    areas = 1.5 + 34 * scale(weights)  # square points
    style = {"cmap": COLORS, "norm": scale, "clip_on": False}
    axis.scatter(
        *points_px[inside].T, s=areas[inside], c=weights[inside], edgecolors="none", **style
    )
    axis.scatter(
        *points_px[~inside].clip(0, size).T,
        s=areas[~inside],
        c=weights[~inside],
        marker="x",
        linewidths=0.7,
        **style,
    )


def _draw_box(axis: Axes, box: Box) -> None:
    left, top, right, bottom = box.xyxy_px
    color = [channel / 255 for channel in box.color]
    axis.add_patch(
        Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, lw=0.9)
    )
    if box.caption:
        axis.annotate(
            box.caption,
            (left, top),
            xytext=(0, 1.5),
            textcoords="offset points",
            fontsize=5.5,
            color="white",
            bbox={"facecolor": color, "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )
