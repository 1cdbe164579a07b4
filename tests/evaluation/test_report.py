"""The results' table and files."""

import json
import math
from pathlib import Path

from projects.clockdistill.evaluation.report import format_table, write_results

_METRICS = {"AP": 41.234, "AP50": 60.0, "APl": math.nan, "AP-Car": 50.06, "AP-Van": math.nan}


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_table_shows_overall_figures_and_classes() -> None:
    overall, classes = (table.splitlines() for table in format_table(_METRICS).split("\n\n"))
    assert _cells(overall[0]) == ["AP", "AP50", "APl"]
    assert _cells(overall[2]) == ["41.2", "60.0", "-"]
    assert _cells(classes[2]) == ["Car", "50.1", "Van", "-"]


def test_many_classes_fill_rows() -> None:
    table = format_table({f"AP-c{i}": float(i) for i in range(6)}).split("\n\n")[1]
    assert len(table.splitlines()) == 2 + 2  # 4 classes a row


def test_files_hold_the_exact_figures_and_the_table(tmp_path: Path) -> None:
    write_results({"bbox": _METRICS}, tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["bbox"]["AP"] == 41.234
    assert results["bbox"]["APl"] is None
    assert format_table(_METRICS) in (tmp_path / "run" / "results.md").read_text()
