"""Means over a quantity that was varied, with the single values."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure


def save_lines(
    path: Path,
    heading: str,
    lines: Mapping[str, Sequence[tuple[float, Sequence[float]]]],
    *,
    x_label: str,
    y_label: str,
    log_x: bool,
) -> None:
    """Draws one line for each name through the means of its values.

    Args:
        path: the picture file.
        heading: above the panel.
        lines: name -> (x, values) of each point; points without values are left out.
        x_label, y_label: of the axes, with the unit.
        log_x: whether x is drawn on a logarithmic axis, with a tick for each of its values.
    """
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axis = figure.subplots()
    for index, (name, points) in enumerate(lines.items()):
        known = sorted((x, values) for x, values in points if len(values))
        color = f"C{index}"
        means = [float(np.mean(values)) for _, values in known]
        axis.plot([x for x, _ in known], means, color=color, marker="_", ms=12, label=name)
        single = [(x, value) for x, values in known for value in values]
        if single:
            axis.scatter(*zip(*single, strict=True), s=14, color=color, alpha=0.6)
    axis.set(title=heading, xlabel=x_label, ylabel=y_label)
    axis.title.set_fontsize(10)
    if log_x:
        ticks = sorted({x for points in lines.values() for x, _ in points})
        axis.set_xscale("log")
        axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
        axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=130)
