"""How far a training run is and how long it took, from the metrics.json that it writes."""

import json
from pathlib import Path
from typing import Any


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """What a run has logged, in order; a line cut off by a power cut or not yet whole is skipped.

    Args:
        folder: the run's output folder.
    """
    file = folder / "metrics.json"
    lines = []
    for text in file.read_text().splitlines() if file.exists() else []:
        try:
            entry = json.loads(text)
        except json.JSONDecodeError:
            continue
        lines.append(entry)
    return lines


def steps_done(folder: Path) -> int:
    """Training steps that a run has done and written down."""
    lines = read_lines(folder)
    return lines[-1]["iteration"] + 1 if lines else 0


def training_seconds(folder: Path) -> float | None:
    """Time of all training steps of a run, without start-up, evaluation and checkpoints.

    Every logged line holds the median time of the steps since the line before. Of steps that a
    resumed run did twice the last time counts: what an uninterrupted run would have taken.

    Returns:
        Seconds, or None if no step was logged.
    """
    seconds = {line["iteration"]: line["time"] for line in read_lines(folder) if "time" in line}
    total, before = 0.0, -1
    for iteration in sorted(seconds):
        total += (iteration - before) * seconds[iteration]
        before = iteration
    return total if seconds else None
