"""`metrics.json` of a run: one JSON object per line, which a kill may cut and a resume repeats."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from projects.clockdistill.engine.atomic import atomic_write


def read(path: Path) -> list[dict[str, Any]]:
    """Returns the complete lines; none if there is no such file."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        with suppress(json.JSONDecodeError):
            lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict) and "iteration" in line]


def forget_from(path: Path, iteration: int) -> list[dict[str, Any]]:
    """Removes the lines from an iteration on, which a resumed run writes again, and cut ones.

    Returns:
        The lines that are left.
    """
    kept = [line for line in read(path) if line["iteration"] < iteration]
    if path.exists():
        with atomic_write(path, "w") as handle:
            handle.writelines(json.dumps(line, sort_keys=True) + "\n" for line in kept)
    return kept
