"""The results' table and files."""

import json
import math
from pathlib import Path

from projects.clockdistill.evaluation.report import format_table, write_results

_METRICS = {"AP": 41.234, "AP50": 60.0, "APl": math.nan, "AP-Car": 50.06, "AP-Van": math.nan}


def test_table_shows_overall_figures_and_classes() -> None:
    overall, classes = format_table(_METRICS).split("\n\n")
    assert [cell.strip() for cell in overall.splitlines()[0].strip("|").split("|")] == [
        "AP",
        "AP50",
        "APl",
    ]
    assert [cell.strip() for cell in overall.splitlines()[2].strip("|").split("|")] == [
        "41.2",
        "60.0",
        "-",
    ]
    assert [cell.strip() for cell in classes.splitlines()[2].strip("|").split("|")] == [
        "Car",
        "50.1",
        "Van",
        "-",
    ]


def test_many_classes_fill_rows() -> None:
    table = format_table({f"AP-c{i}": float(i) for i in range(6)}).split("\n\n")[1]
    assert len(table.splitlines()) == 2 + 2  # 4 classes a row


def test_files_hold_the_exact_figures_and_the_table(tmp_path: Path) -> None:
    write_results({"bbox": _METRICS}, tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["bbox"]["AP"] == 41.234
    assert results["bbox"]["APl"] is None
    assert format_table(_METRICS) in (tmp_path / "run" / "results.md").read_text()
