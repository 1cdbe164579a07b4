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


def test_kittis_table_has_a_row_for_each_class_and_the_mean() -> None:
    names = ("easy", "hard", "Car-easy", "Car-hard")
    figures = {f"{points}-{name}": 10.0 for points in ("AP40", "AP11") for name in names}
    table = format_table({**figures, "AP11-Car-hard": math.nan}, "kitti").splitlines()
    assert _cells(table[0]) == ["class", "AP40 easy", "AP40 hard", "AP11 easy", "AP11 hard"]
    assert _cells(table[2]) == ["Car", "10.0", "10.0", "10.0", "-"]
    assert _cells(table[3]) == ["mean", *["10.0"] * 4]
    assert len(table) == 4


def test_files_hold_the_exact_figures_and_the_table(tmp_path: Path) -> None:
    write_results({"bbox": _METRICS}, tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["bbox"]["AP"] == 41.234
    assert results["bbox"]["APl"] is None
    assert format_table(_METRICS) in (tmp_path / "run" / "results.md").read_text()
