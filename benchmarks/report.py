"""The results of a run as a table and as JSON."""

import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from projects.clockdistill.engine.atomic import atomic_write
from projects.clockdistill.engine.environment import commit, machine, versions


def environment(against: str = "self") -> dict[str, Any]:
    """Returns what the figures depend on: machine, threads, versions and commit."""
    packages = dict(versions())
    if against != "self":
        try:
            packages[against] = version(against)
        except PackageNotFoundError:  # a checkout on the path
            packages[against] = "unknown"
    return {
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "commit": commit(),
        "load average": round(os.getloadavg()[0], 2),  # of the minute before
        "versions": packages,
    }


def table(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Returns a Markdown table of what `Pair.measure` returned, one row per pair."""
    rows = []
    for pair in pairs:
        ours, theirs = (show(pair[side]["median"], pair["unit"]) for side in ("ours", "theirs"))
        ratio = "{median:.3g}x ({lower_quartile:.3g} to {upper_quartile:.3g})".format_map(
            pair["ratio"]
        )
        met = "yes" if pair["met"] else "NO"
        rows.append([pair["what"], pair["reference"], ours, theirs, ratio, pair["target"], met])
    headers = ("what", "against", "ours", "theirs", "ratio (quartiles)", "target", "met")
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def show(value: float, unit: str) -> str:
    """Returns seconds or bytes in a unit that suits their size."""
    if unit == "bytes":
        return f"{value / 1e6:,.1f} MB"
    return f"{value:,.2f} s" if value >= 1 else f"{1000 * value:,.1f} ms"


def write_json(path: Path, content: Any) -> None:
    """Writes a file and the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "w") as handle:
        handle.write(json.dumps(content, indent=2) + "\n")
