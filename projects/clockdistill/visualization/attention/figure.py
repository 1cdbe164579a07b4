"""A figure of maps and sampling points on one image: one column per detector."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

MAP_COLORS, POINT_COLORS = colormaps["inferno"], colormaps["plasma"]  # perceptually uniform
_WIDTH, _HEIGHT = 5.5, 4.5  # inches that a panel may take at most
_TALLEST = 40.0  # inches of a whole figure
_GAMMA = 0.7  # below 1: weak attention is not black
_HIGHEST = 99.8  # percentile of the pixels that has the brightest colour


@dataclass(frozen=True)
class Box:
    """A box on a panel.

    Attributes:
        xyxy_px: left, top, right, bottom in pixels of the image.
        color: (red, green, blue), 0 to 255.
        caption: written above it in the first row; may be empty.
    """

    xyxy_px: Sequence[float]
    color: tuple[int, int, int]
    caption: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture of a figure; has a map, or points, or neither.

    Attributes:
        title: above it; lines that are too long are broken.
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
    """Panels that share a scale of colours from 0, or have scales of their own.

    Attributes:
        panels: one for each column.
        label: of the colour bar, with the unit; None scales each panel from its lowest value to
            its highest.
    """

    panels: Sequence[Panel]
    label: str | None = None


@matplotlib.rc_context({"text.parse_math": False})  # names may hold $
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
    tall = min(_WIDTH * height / width, _HEIGHT, _TALLEST / len(rows))
    wide = max(tall * width / height, 2.2)
    titles = [[_wrapped(panel.title, wide) for panel in row.panels] for row in rows]
    lines = [max(title.count("\n") + 1 for title in row) for row in titles]
    text = 0.125 * sum(lines) + 0.08 * len(rows)  # inches
    heading_lines = heading.count("\n") + 1
    figure = Figure(
        figsize=(wide * columns + 0.9, tall * len(rows) + text + 0.2 * heading_lines),
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, hspace=0.0, wspace=0.0)
    figure.suptitle(heading, fontsize=9)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, row, row_titles in zip(grid, rows, titles, strict=True):
        scale = _scale(row)
        for axis, panel, title in zip(axes, row.panels, row_titles, strict=True):
            axis.set_title(title, fontsize=7.5, pad=2)
            _draw(axis, image, panel, scale or Normalize(), captions=row is rows[0])
        if scale is not None:
            is_map = any(panel.heat is not None for panel in row.panels)
            colors = ScalarMappable(scale, MAP_COLORS if is_map else POINT_COLORS)
            bar = figure.colorbar(colors, ax=list(axes), pad=0.01, aspect=12)
            bar.set_label(row.label, fontsize=7)
            bar.ax.tick_params(labelsize=6)
    figure.savefig(path, dpi=150)


def _wrapped(title: str, width: float) -> str:
    """Breaks the lines of a title that is wider than its panel; `width` in inches."""
    letters = int(width / 0.068)  # of 7.5 points
    return "\n".join(textwrap.fill(line, letters) for line in title.splitlines())


def _scale(row: Row) -> Normalize | None:
    """Returns the colours that all panels of a row share; None if they share none."""
    highest = [np.percentile(p.heat, _HIGHEST) for p in row.panels if p.heat is not None]
    highest += [p.weights.max() for p in row.panels if p.weights is not None and len(p.weights)]
    if row.label is None or not highest:
        return None
    return PowerNorm(_GAMMA, 0.0, max(*highest, 1e-9))


def _draw(axis: Axes, image: np.ndarray, panel: Panel, scale: Normalize, *, captions: bool) -> None:
    height, width = image.shape[:2]
    extent = (0, width, height, 0)  # a pixel's corner, not its centre, has whole coordinates
    grey = image.mean(-1, keepdims=True).repeat(3, -1) / 255
    axis.set_axis_off()
    if panel.heat is not None:
        strength = np.asarray(scale(panel.heat))[..., None].clip(0, 1)
        colors = MAP_COLORS(strength[..., 0])[..., :3]
        # the scene stays visible where the map is dark
        axis.imshow((0.45 - 0.2 * strength) * grey + 0.75 * colors, extent=extent)
    elif panel.points_px is not None:
        axis.imshow(0.45 * grey, extent=extent)
        _draw_points(axis, panel.points_px, panel.weights, scale, (width, height))
    else:
        axis.imshow(0.45 * grey, extent=extent)
    axis.set(xlim=(0, width), ylim=(height, 0))
    for box in panel.boxes:
        _draw_box(axis, box, caption=captions)
    if panel.cross_px is not None:
        axis.plot(*panel.cross_px, "+", color="cyan", ms=9, mew=1.4)


def _draw_points(
    axis: Axes, points_px: np.ndarray, weights: np.ndarray, scale: Normalize, size: tuple[int, int]
) -> None:
    """Draws the points, the heaviest last; those outside of the image as crosses at its border."""
    order = np.argsort(weights, kind="stable")
    points_px, weights = points_px[order], weights[order]
    inside = ((points_px >= 0) & (points_px <= size)).all(-1)
    areas = 1.5 + 34 * scale(weights)  # square points
    style = {"cmap": POINT_COLORS, "norm": scale, "clip_on": False}
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


def _draw_box(axis: Axes, box: Box, *, caption: bool) -> None:
    left, top, right, bottom = box.xyxy_px
    color = [channel / 255 for channel in box.color]
    axis.add_patch(
        Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, lw=0.9)
    )
    if caption and box.caption:
        # nothing is written outside of the picture
        fits_above = top * axis.bbox.height / axis.get_ylim()[0] > 8 * axis.figure.dpi / 72
        axis.annotate(
            box.caption,
            (max(left, 0), top),
            xytext=(0, 1.5 if fits_above else -1.5),
            textcoords="offset points",
            va="bottom" if fits_above else "top",
            fontsize=5.5,
            color="white",
            bbox={"facecolor": color, "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )
