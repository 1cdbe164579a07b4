"""Horizontal bars with intervals and reference figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_BAR, _POINT, _MARKER = "#7aa6c2", "#1f3d4d", "#c8553d"


@dataclass(frozen=True)
class Bar:
    """One bar of a panel.

    Attributes:
        length: None draws only `text`.
        interval: ends of a line across the bar's end.
        points: the values whose mean is the length.
        marker: a reference figure for the same quantity.
        text: shown where there is no length.
    """

    length: float | None
    interval: Sequence[float] | None = None
    points: Sequence[float] = ()
    marker: float | None = None
    text: str = ""


def save_bars(
    path: Path,
    heading: str,
    rows: Sequence[str],
    panels: Mapping[str, Sequence[Bar]],
    *,
    label: str,
    interval_name: str,
    marker_name: str,
) -> None:
    """Draws panels side by side that share their rows.

    Args:
        path: the picture file.
        heading: above all panels.
        rows: names of the rows.
        panels: title -> one bar for each row, from top to bottom.
        label: of the horizontal axes, with the unit.
        interval_name, marker_name: of the intervals and markers, for the legend.
    """
    height = 1.5 + 0.38 * len(rows)
    figure = Figure(figsize=(1.8 + 4.2 * len(panels), height), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    figure.suptitle(heading, fontsize=11)
    handles = {}
    for axis, (title, bars) in zip(axes, panels.items(), strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(label)
        _draw(axis, list(enumerate(bars)), interval_name, marker_name)
        drawn, names = axis.get_legend_handles_labels()
        handles |= dict(zip(names, drawn, strict=True))
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    if handles:
        figure.legend(
            handles.values(), handles, loc="outside lower center", ncols=len(handles), fontsize=8
        )
    figure.savefig(path, dpi=130)


def _draw(
    axis: Axes, bars: Sequence[tuple[int, Bar]], interval_name: str, marker_name: str
) -> None:
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    known = [(row, bar) for row, bar in bars if bar.length is not None]
    axis.barh([row for row, _ in known], [bar.length for _, bar in known], color=_BAR, height=0.6)
    points = [(value, row) for row, bar in known for value in bar.points]
    if points:
        axis.scatter(*zip(*points, strict=True), s=14, color=_POINT, zorder=3, label="one seed")
    intervals = [(row, *bar.interval) for row, bar in known if bar.interval]
    if intervals:
        y, low, high = zip(*intervals, strict=True)
        middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
        half = [(b - a) / 2 for a, b in zip(low, high, strict=True)]
        style = {"fmt": "none", "ecolor": "black", "capsize": 3}
        axis.errorbar(middle, y, xerr=half, label=interval_name, **style)
    markers = [(bar.marker, row) for row, bar in bars if bar.marker is not None]
    if markers:
        style = {"marker": "D", "facecolor": "white", "edgecolor": _MARKER, "linewidth": 1.4}
        axis.scatter(*zip(*markers, strict=True), s=42, zorder=4, label=marker_name, **style)
    for row, bar in bars:
        if bar.length is None:
            axis.annotate(
                bar.text,
                (0, row),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                style="italic",
            )
