"""The written table: what JSON, CSV and Markdown hold, also of what failed or did not run."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from reproduction import costs
from reproduction.execution import execute
from reproduction.lock import exclusive
from reproduction.measured import measured_rows, undecided_pairs
from reproduction.report import write_report

ROW_KEYS = {
    "row", "status", "seeds", "ap", "ap_mean", "ap_std", "gain", "gain_ci95", "paper_ap",
    "parameters", "flops", "fps", "train_seconds", "steps", "commits", "commands", "failed",
    "not_run", "config", "paper_gain", "gain_welch95",
}  # fmt: skip


@pytest.fixture
def written(tools, plan_of, tmp_path):
    """Runs rows of a table and writes it; returns the folder's files by suffix."""

    def write(number, only, **behaviour):
        tools.behave(**behaviour)
        plan = plan_of(number)
        measured = costs.measurements(plan)
        with exclusive(plan.options.folder) as lock:
            execute(plan.phases(only), plan.options.folder, 2, lock)
            costs.measure([measured[name] for name in only], lock)
        content = {
            "table": number,
            "scale": "mini",
            "rows": measured_rows(plan, measured),
            "undecided": [
                {"row": row, "other": other, "gain": gain.gain, "ci95": gain.ci95}
                for row, other, gain in undecided_pairs(plan)
            ],
            "command": "python tools/reproduce.py --table 4",
            "overrides": ["train.max_iter=2"],
            "commit": "abc",
            "versions": {"torch": "2.9"},
            "machine": "a machine",
        }
        files = write_report(tmp_path / "results", plan.table, content)
        return {file.suffix: file for file in files}

    return write


def rows_of(files):
    content = json.loads(files[".json"].read_text())
    return {row["row"]: row for row in content["rows"]}


def test_the_json_of_table_4(written):
    files = written(
        4,
        ["teacher", "baseline", "kd_detr", "clockdistill"],
        **{"teachers/": 65.0, "baselines/": 40.0, "kd_detr": 45.0, "clockdistill": 52.0},
    )
    assert {file.name for file in files.values()} == {
        f"table4_mini.{suffix}" for suffix in ("md", "json", "csv", "png")
    }
    content = json.loads(files[".json"].read_text())
    assert (content["table"], content["scale"]) == (4, "mini")
    assert [row["row"] for row in content["rows"]] == [
        "teacher", "baseline", "fitnet", "fgd", "mgd", "kd_detr", "clockdistill",
        "baseline_equal_time", "baseline_long", "clockdistill_long",
    ]  # fmt: skip
    assert all(row.keys() >= ROW_KEYS for row in content["rows"])
    rows = rows_of(files)
    ours = rows["clockdistill"]
    assert ours["status"] == "ok"
    assert ours["seeds"] == [0, 1]
    assert ours["ap"] == [52.0, 53.0]
    assert ours["ap_mean"] == 52.5
    assert ours["ap_std"] == pytest.approx(0.5**0.5, abs=1e-4)
    assert ours["gain"] == 12.0
    assert ours["gain_ci95"] == [11.0, 13.0]
    assert ours["gain_over_kd_detr"] == 7.0
    assert ours["gain_over_kd_detr_ci95"] == [6.0, 8.0]
    assert ours["gain_over_baseline_long"] is None  # not run
    assert ours["paper_ap"] == 62.5
    assert ours["paper_gain"] == 6.4
    assert (ours["parameters"], ours["flops"], ours["fps"]) == (630000, 2e9, 40.0)
    assert ours["train_seconds"] == 20.0
    assert rows["teacher"]["ap"] == [65.0]
    assert rows["teacher"]["gain_ci95"] is None
    assert rows["baseline"]["gain"] is None
    missing = rows["fitnet"]
    assert missing["status"] == "not run"
    assert missing["ap"] == [] and missing["ap_mean"] is None and missing["gain_ci95"] is None


def test_a_failed_run_is_a_row_that_says_so(written):
    files = written(5, ["baseline", "memory_mask"], memory_mask="fail")
    row = rows_of(files)["memory_mask"]
    assert row["status"] == "failed"
    assert [one["seed"] for one in row["failed"]] == [0, 1]
    assert "CUDA out of patience" in row["failed"][0]["reason"]
    page = files[".md"].read_text()
    line = next(line for line in page.splitlines() if line.startswith("| memory_mask "))
    assert "FAILED" in line
    assert "memory_mask, seed 1, failed:" in page and "    CUDA out of patience" in page


def test_the_page_says_what_was_measured_how_and_what_did_not_part(written):
    page = written(
        5,
        ["baseline", "memory", "memory_mask"],
        **{"baselines/": 40.0, "memory_mask": 50.2, "memory_dino": 50.0},
    )[".md"].read_text()
    overview = next(line for line in page.splitlines() if line.startswith("| memory_mask "))
    assert "50.7 ± 0.7" in overview and "+10.2 [+9.2, +11.2]" in overview
    assert "61.6" in overview and "+5.5" in overview
    assert "| clockdistill | -       | not run" in page
    assert "memory_mask over memory: +0.2 [-0.8, +1.2]" in page
    assert "memory over baseline" not in page
    for text in (
        "not KITTI",
        "(table5_mini.png)",
        "python tools/reproduce.py --table 4",
        "train.max_iter=2",
        "torch 2.9",
        "configs/mini/ablations/memory_mask_dino_r18_synthkitti.py",
        "0.63 M",
    ):
        assert text in page, text


def test_the_csv_holds_one_figure_a_cell(written):
    files = written(5, ["baseline", "memory"], **{"baselines/": 40.0, "memory_dino": 50.0})
    with files[".csv"].open() as handle:
        rows = {row["row"]: row for row in csv.DictReader(handle)}
    assert rows["memory"]["seeds"] == "0 1"
    assert rows["memory"]["ap"] == "50.0 51.0"
    assert float(rows["memory"]["gain_ci95_low"]) == 9.0
    assert float(rows["memory"]["gain_ci95_high"]) == 11.0
    assert rows["clockdistill"]["ap_mean"] == ""
    assert rows["clockdistill"]["status"] == "not run"


def test_the_picture_is_not_empty(written):
    picture = np.asarray(Image.open(written(5, ["baseline"])[".png"]))
    assert picture.std() > 10


def test_a_measurement_that_fails_leaves_its_cells_empty(written, tools):
    (tools.folder / "analyze_model.py").write_text("raise SystemExit('no ruler')")
    files = written(5, ["baseline"])
    row = rows_of(files)["baseline"]
    assert row["status"] == "ok"
    assert row["parameters"] is None and row["flops"] is None and row["fps"] is None
