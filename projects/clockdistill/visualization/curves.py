"""Training curves from the metrics.json files of runs."""

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def read_metric(metrics_file: Path, name: str) -> tuple[list[int], list[float]]:
    """Returns the steps and values of one metric of a run.

    Args:
        metrics_file: one JSON object per line, as detectron2's JSONWriter writes it.
        name: the metric, such as "total_loss".

    Returns:
        Steps and values of the lines that hold the metric.

    Raises:
        ValueError: if a line is not a JSON object; names file and line.
    """
    steps, values = [], []
    for number, line in enumerate(metrics_file.read_text().splitlines(), start=1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{metrics_file}, line {number}: not JSON ({error}). Fix: delete the line"
            ) from error
        if name in entry:
            steps.append(entry["iteration"] + 1)
            values.append(entry[name])
    return steps, values


def save_curves(
    path: Path, runs: dict[str, Path], metrics: Sequence[str], titles: Sequence[str]
) -> None:
    """Draws one panel per metric, with one line per run that logged it.

    Args:
        path: the picture file to write.
        runs: name of a run -> its metrics.json.
        metrics: names of metrics.
        titles: headings of the metrics, one each.
    """
    figure = Figure(figsize=(4.6 * len(metrics), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axis, metric, title in zip(axes, metrics, titles, strict=True):
        for run, metrics_file in runs.items():
            steps, values = read_metric(metrics_file, metric)
            if steps:
                axis.plot(steps, values, label=run, marker="o" if len(steps) < 20 else None, ms=3)
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=110)
