"""A measured table as JSON, CSV, Markdown and a picture."""

import csv
import json
from pathlib import Path
from typing import Any

from projects.clockdistill.engine.atomic import atomic_write
from projects.clockdistill.visualization.bars import Bar, Panel, save_bars
from reproduction.markdown import markdown
from reproduction.table import Table

# One figure a cell; what is nested or long stays in the JSON.
_CSV_LISTS = ("seeds", "ap", "commits")
_CSV_PAIRS = "_ci95", "_welch95"
_CSV_OMITTED = ("failed", "not_run", "commands", "machines", "note")


def write_report(folder: Path, table: Table, content: dict[str, Any]) -> list[Path]:
    """Writes all four files, each whole or not at all.

    Args:
        folder: made if need be.
        table: what is reported.
        content: what the JSON holds: table, scale, rows (see `measured.measured_rows`),
            undecided, and how it was made.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = _rounded(content)
    stem = folder / f"table{table.number}_{content['scale']}"
    files = [stem.with_suffix(suffix) for suffix in (".md", ".json", ".csv", ".png")]
    with atomic_write(files[0], "w") as handle:
        handle.write(markdown(table, content, picture=files[3].name))
    with atomic_write(files[1], "w") as handle:
        handle.write(json.dumps(content, indent=2) + "\n")
    rows = [_flat(row) for row in content["rows"]]
    with atomic_write(files[2], "w") as handle:
        writer = csv.DictWriter(handle, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    _save_picture(files[3], table, content)
    return files


def _rounded(value: Any) -> Any:
    """Floats to 4 decimals, tuples as lists: the same after a trip through JSON."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for key, value in row.items():
        if key in _CSV_OMITTED:
            continue
        if key in _CSV_LISTS:
            cells[key] = " ".join(map(str, value))
        elif key.endswith(_CSV_PAIRS):
            cells[f"{key}_low"], cells[f"{key}_high"] = value or (None, None)
        else:
            cells[key] = value
    return cells


def _save_picture(path: Path, table: Table, content: dict[str, Any]) -> None:
    rows = content["rows"]
    levels = [
        Bar(
            row["ap_mean"],
            row["ap_ci95"],
            row["ap"],
            row["paper_ap"],
            text=row["status"],
        )
        for row in rows
    ]
    gains = [Bar(row["gain"], row["gain_ci95"], marker=row["paper_gain"]) for row in rows]
    save_bars(
        path,
        f"Table {table.number}, scale {content['scale']}: {table.title}",
        [row["row"] for row in rows],
        [
            Panel("reached", "AP", levels),
            Panel("gain over the undistilled student", "AP", gains),
        ],
        interval_name="95% interval (bootstrap)",
        marker_name="the paper, on its own data",
    )
