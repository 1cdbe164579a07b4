"""Statistics of the splits of a dataset in one figure, one colour per split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

_COLORS = ("#0072b2", "#e69f00", "#009e73")  # of the splits, by Okabe and Ito
_SHOWN_CLASSES = 100  # the most frequent
_FEW_CLASSES = 30  # up to which letters have their usual size
_BINS = 40
_CELLS = 32  # of the map of centres, along each side
_PANEL_HEIGHT, _BAR_HEIGHT = 2.7, 0.1  # inches


@dataclass(frozen=True)
class Histogram:
    """One panel: the distribution of a quantity in every split.

    Attributes:
        title: of the panel.
        label: of the horizontal axis, with the unit.
        values: split -> (N,) numbers.
        is_count: whether they are whole numbers, of which each gets its bar. Others are positive
            and drawn on a logarithmic axis.
        lines: text -> value, of vertical lines.
    """

    title: str
    label: str
    values: Mapping[str, np.ndarray]
    is_count: bool = False
    lines: Mapping[str, float] = field(default_factory=dict)


@matplotlib.rc_context({"text.parse_math": False})  # names may hold $
def save_data_figure(
    path: Path,
    class_names: Sequence[str],
    counts: Mapping[str, np.ndarray],
    histograms: Sequence[Histogram],
    centers: Mapping[str, np.ndarray],
) -> None:
    """Draws classes, histograms and a map of centres; all as shares of their split.

    Args:
        path: the picture file to write.
        class_names: by class.
        counts: split -> (num_classes,) objects.
        histograms: an even number of panels.
        centers: split -> (N, 2) x and y of the boxes' centres in [0, 1] of the image.
    """
    order = np.argsort(-next(iter(counts.values())), kind="stable")[:_SHOWN_CLASSES]
    rows = len(histograms) // 2 + 1
    height = max(rows * _PANEL_HEIGHT, 1 + _BAR_HEIGHT * len(order) * len(counts))
    figure = Figure(figsize=(14, height), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(5, 9))
    _draw_classes(left.subplots(), [class_names[i] for i in order], counts, order)
    axes = right.subplots(rows, 2)
    for axis, histogram in zip(axes.flat, histograms, strict=False):
        _draw_histogram(axis, histogram)
    _draw_centers(list(axes[-1]), centers)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    figure.savefig(path, dpi=110)


def _draw_classes(
    axis: Axes, names: Sequence[str], counts: Mapping[str, np.ndarray], order: np.ndarray
) -> None:
    """Draws bars of the classes' shares with their numbers, the most frequent at the top."""
    height = 0.8 / len(counts)
    size = 7 if len(names) <= _FEW_CLASSES else 6
    rows = np.arange(len(names))
    for number, (of_split, color) in enumerate(zip(counts.values(), _COLORS, strict=False)):
        shares = 100 * of_split[order] / max(1, of_split.sum())
        bars = axis.barh(rows + (number - (len(counts) - 1) / 2) * height, shares, height)
        for bar in bars:
            bar.set_color(color)
        axis.bar_label(bars, [f"{count:,}" for count in of_split[order]], padding=3, fontsize=size)
    left_out = len(next(iter(counts.values()))) - len(names)
    title = f"Objects per class (the {len(names)} most frequent)" if left_out else None
    axis.set(title=title or "Objects per class", xlabel="% of the split's objects")
    axis.set_yticks(rows, names, fontsize=9 if len(names) <= _FEW_CLASSES else 7.5)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.margins(x=0.15)
    _grid(axis, "x")


def _draw_histogram(axis: Axes, histogram: Histogram) -> None:
    values = [of_split for of_split in histogram.values.values() if len(of_split)]
    axis.set(title=histogram.title, xlabel=histogram.label, ylabel="%")
    _grid(axis, "y")
    if not values:
        return
    low, high = min(v.min() for v in values), max(v.max() for v in values)
    if histogram.is_count:
        step = max(1, -(-(high + 1) // _BINS))
        edges = np.arange(0, high + step + 1, step) - 0.5
    else:
        edges = np.geomspace(low / 1.02, high * 1.02, _BINS + 1)
        axis.set_xscale("log")
        _plain_ticks(axis, low, high)
    for (name, of_split), color in zip(histogram.values.items(), _COLORS, strict=False):
        shares = 100 * np.histogram(of_split, edges)[0] / max(1, len(of_split))
        axis.stairs(shares, edges, fill=True, color=color, alpha=0.25)
        axis.stairs(shares, edges, color=color, lw=1.5, label=name)
    axis.margins(y=0.15)  # for the texts
    for text, value in histogram.lines.items():
        if edges[0] <= value <= edges[-1]:
            axis.axvline(value, color="black", lw=1, ls="dashed")
            place = {"transform": axis.get_xaxis_transform(), "ha": "center", "va": "top"}
            style = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            axis.text(value, 0.98, text, fontsize=7, bbox=style, **place)


def _plain_ticks(axis: Axes, low: float, high: float) -> None:
    """Labels a logarithmic axis with 1, 2, 5, 10, ... instead of powers of ten."""
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = np.outer(decades, (1, 2, 5)).ravel()
    ticks = ticks[(ticks >= low / 1.02) & (ticks <= high * 1.02)]
    if len(ticks) > 10:
        ticks = decades[(decades >= low) & (decades <= high)]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_xticks([], minor=True)


def _draw_centers(axes: Sequence[Axes], centers: Mapping[str, np.ndarray]) -> None:
    """Draws where the centres of boxes are, on one scale for all splits."""
    edges = np.linspace(0, 1, _CELLS + 1)
    maps = {
        name: np.histogram2d(xy[:, 1], xy[:, 0], (edges, edges))[0] / max(1, len(xy))
        for name, xy in centers.items()
    }
    highest = max(of_split.max() for of_split in maps.values()) or 1
    for axis, (name, of_split), color in zip(axes, maps.items(), _COLORS, strict=False):
        colors = LinearSegmentedColormap.from_list(name, ["white", color, "black"])
        # square roots: a place that is ten times rarer is still seen
        axis.imshow(np.sqrt(of_split), cmap=colors, vmin=0, vmax=highest**0.5, extent=(0, 1, 1, 0))
        axis.set(title=f"Centres of boxes: {name}", xlabel="x / width", ylabel="y / height")
        axis.set_aspect("auto")
    for axis in axes[len(maps) :]:
        axis.set_axis_off()


def _grid(axis: Axes, along: str) -> None:
    axis.grid(axis=along, alpha=0.3)
    axis.set_axisbelow(True)
