"""Card, versions and commit; the tables; the JSON file.

By hand: the kernel's sections need torch, triton and numpy alone, so neither tabulate nor
`engine.environment` (which needs detectron2) is there.
"""

import datetime
import importlib
import itertools
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.card.section import Row
from projects.clockdistill.engine.atomic import atomic_write

ROOT = Path(__file__).resolve().parents[2]
COMMIT_VARIABLE = "CLOCKDISTILL_COMMIT"


def environment(device: torch.device) -> dict[str, Any]:
    """Returns what the figures depend on."""
    found = {
        "device": device.type,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _version("triton"),
        "numpy": _version("numpy"),
        "threads": torch.get_num_threads(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found |= {
            "card": card.name,
            "memory, GB": round(card.total_memory / 1e9, 1),
            "compute capability": f"{card.major}.{card.minor}",
            "driver": driver(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def commit() -> str:
    """Returns `$CLOCKDISTILL_COMMIT`, for copies without their history, else git's commit."""
    if COMMIT_VARIABLE in os.environ:
        return os.environ[COMMIT_VARIABLE]
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--exclude=*"]
    try:
        return _output([*command, "--dirty=+changes"])
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def driver() -> str:
    """Returns the version of the card's driver."""
    try:
        return _output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _output(command: Sequence[str]) -> str:
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return found.strip().partition("\n")[0]


def _version(module: str) -> str:
    try:
        return importlib.import_module(module).__version__
    except ImportError:
        return "none"


def tables(rows: Sequence[Row]) -> str:
    """Returns a plain text table for each run of rows with the same columns."""
    return "\n\n".join(
        _table(list(columns), [[_cell(value) for value in row.values()] for row in group])
        for columns, group in itertools.groupby(rows, key=tuple)
    )


def _table(columns: list[str], cells: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = []
    for row in [columns, *cells]:
        padded = [
            text.ljust(width) if index == 0 else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def write_json(path: Path, content: Any) -> None:
    """Writes a file and the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "w") as handle:
        handle.write(json.dumps(content, indent=2) + "\n")
