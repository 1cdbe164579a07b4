"""The picture of growth: one panel an axis, both scales logarithmic."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.growth_axes import Growth
from benchmarks.part_clock import STEP


def save_growth(path: Path, heading: str, growths: Sequence[Growth]) -> None:
    """Draws the parts of a step against what grows, a broken line for proportional growth.

    Args:
        path: the picture file to write.
        heading: above all.
        growths: one a panel, at least one.
    """
    figure = Figure(figsize=(1.5 + 3.9 * len(growths), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(growths), sharey=True, squeeze=False)[0]
    figure.suptitle(heading, fontsize=11)
    for panel, growth in zip(panels, growths, strict=True):
        _draw(panel, growth)
    panels[0].set_ylabel("seconds")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8)
    figure.savefig(path, dpi=130)


def _draw(panel: Axes, growth: Growth) -> None:
    values, whole = growth.axis.values, growth.medians[STEP]
    for part, seconds in growth.medians.items():
        style = {"color": "black", "linewidth": 2} if part == STEP else {"linewidth": 1}
        panel.plot(values, seconds, marker="o", markersize=3, label=part, **style)
    linear = [whole[-1] * value / values[-1] for value in values]
    panel.plot(values, linear, "--", color="grey", linewidth=1, label="proportional")
    panel.set(
        xscale="log",
        yscale="log",
        xlabel=growth.axis.name,
        title=f"step: exponent {growth.exponent(STEP):.2f}",
    )
    panel.set_xticks(values, [f"{value:,}" for value in values], fontsize=8, rotation=30)
    panel.set_xticks([], minor=True)
    panel.grid(alpha=0.3)
