"""Horizontal bars with intervals, with other people's figures beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_BAR, _POINT, _MARKER = "#7aa6c2", "#1f3d4d", "#c8553d"


@dataclass(frozen=True)
class Bar:
    """One bar of a panel.

    Attributes:
        length: None draws nothing but `text`.
        interval: ends of a line across the bar's end.
        points: single values that the length stands for.
        marker: another's figure for the same thing.
        text: what to write where there is no length.
    """

    length: float | None
    interval: tuple[float, float] | None = None
    points: Sequence[float] = ()
    marker: float | None = None
    text: str = ""


@dataclass(frozen=True)
class Panel:
    """One bar a row, from top to bottom.

    Attributes:
        title: above the panel.
        label: of the axis, with the unit.
        bars: as many as there are rows.
    """

    title: str
    label: str
    bars: Sequence[Bar]


def save_bars(
    path: Path,
    heading: str,
    rows: Sequence[str],
    panels: Sequence[Panel],
    *,
    interval_name: str,
    marker_name: str,
) -> None:
    """Draws panels side by side that share their rows.

    Args:
        path: the picture file to write.
        heading: above all.
        rows: their names.
        panels: at least one.
        interval_name: what intervals are, for the legend.
        marker_name: what markers are, for the legend.

    Raises:
        ValueError: if a panel has another number of bars than there are rows.
    """
    for panel in panels:
        if len(panel.bars) != len(rows):
            raise ValueError(
                f"panel '{panel.title}' has {len(panel.bars)} bars for {len(rows)} rows"
            )
    height = 1.5 + 0.38 * len(rows)
    figure = Figure(figsize=(1.8 + 4.2 * len(panels), height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    figure.suptitle(heading, fontsize=11)
    handles = {}
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, panel, interval_name, marker_name)
        drawn, names = axis.get_legend_handles_labels()
        handles |= dict(zip(names, drawn, strict=True))
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    if handles:
        figure.legend(
            handles.values(), handles, loc="outside lower center", ncols=len(handles), fontsize=8
        )
    figure.savefig(path, dpi=130)


def _draw(axis: Axes, panel: Panel, interval_name: str, marker_name: str) -> None:
    axis.set_title(panel.title, fontsize=10)
    axis.set_xlabel(panel.label)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    known = [(row, bar) for row, bar in enumerate(panel.bars) if bar.length is not None]
    axis.barh([row for row, _ in known], [bar.length for _, bar in known], color=_BAR, height=0.6)
    points = [(value, row) for row, bar in known for value in bar.points]
    if points:
        axis.scatter(*zip(*points, strict=True), s=14, color=_POINT, zorder=3, label="one seed")
    intervals = [(row, bar) for row, bar in known if bar.interval is not None]
    if intervals:
        middles = [(bar.interval[0] + bar.interval[1]) / 2 for _, bar in intervals]
        axis.errorbar(  # around the middle: the bar need not end there
            middles,
            [row for row, _ in intervals],
            xerr=[bar.interval[1] - x for (_, bar), x in zip(intervals, middles, strict=True)],
            fmt="none",
            ecolor="black",
            capsize=3,
            label=interval_name,
        )
    markers = [(bar.marker, row) for row, bar in enumerate(panel.bars) if bar.marker is not None]
    if markers:
        axis.scatter(
            *zip(*markers, strict=True),
            s=42,
            marker="D",
            facecolor="white",
            edgecolor=_MARKER,
            linewidth=1.4,
            zorder=4,
            label=marker_name,
        )
    for row, bar in enumerate(panel.bars):
        if bar.length is None and bar.text:
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
