"""Training curves of runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def save_curves(
    path: Path, runs: Mapping[str, Sequence[Mapping[str, Any]]], titles: Mapping[str, str]
) -> None:
    """Draws one panel per metric, with one line per run that logged it.

    Args:
        path: the picture file to write.
        runs: name of a run -> the lines of its metrics.json, as detectron2's JSONWriter writes it.
        titles: name of a metric -> heading of its panel.
    """
    figure = Figure(figsize=(4.6 * len(titles), 3.4), layout="constrained")
    axes = figure.subplots(1, len(titles), squeeze=False)[0]
    for axis, (metric, title) in zip(axes, titles.items(), strict=True):
        for run, lines in runs.items():
            lines = [line for line in lines if metric in line]
            steps = [line["iteration"] + 1 for line in lines]
            values = [line[metric] for line in lines]
            if steps:
                axis.plot(steps, values, label=run, marker="o" if len(steps) < 20 else None, ms=3)
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=110)
