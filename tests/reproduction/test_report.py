"""The written table: JSON, CSV, Markdown and picture, also of rows that failed or did not run."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from projects.clockdistill.engine.config_file import ROOT
from reproduction.costs import Costs
from reproduction.execution import execute
from reproduction.report import measured, stored, write_report
from reproduction.statistics import welch_interval
from reproduction.tables import METRICS, TABLES


@pytest.fixture
def written(tools, plan_of, tmp_path):
    """Runs rows of a table and writes it; returns the files by suffix."""

    def write(number, only, **behaviour):
        tools.behave(**behaviour)
        plan = plan_of(number)
        rows = [plan.table.row(name) for name in only]
        for runs in plan.phases(rows):
            execute(runs, 2)
        for row in rows:
            Costs(plan, row).measure()
        content = measured(plan, f"python tools/reproduce.py --table {number}")
        return {
            file.suffix: file for file in write_report(tmp_path / "results", plan.table, content)
        }

    return write


def rows_of(files):
    content = json.loads(files[".json"].read_text())
    return {row["row"]: row for row in content["rows"]}


def test_the_json(written):
    files = written(
        "4",
        ["teacher", "baseline", "kd_detr", "clockdistill"],
        **{"teachers/": 65.0, "baselines/": 40.0, "kd_detr": 45.0, "mini/dino_r18": 52.0},
    )
    content = json.loads(files[".json"].read_text())
    assert (content["table"], content["scale"]) == ("4", "mini")
    rows = rows_of(files)
    assert list(rows) == [row.name for row in TABLES["4"].rows_at("mini")]
    ours = rows["clockdistill"]
    assert (ours["status"], ours["seeds"], ours["ap"]) == ("ok", [0, 1], [52.0, 53.0])
    assert (ours["ap_mean"], ours["gain"], ours["gain_over_kd_detr"]) == (52.5, 12.0, 7.0)
    assert ours["ap_std"] == pytest.approx(0.5**0.5, abs=1e-4)
    interval = welch_interval([52.0, 53.0], [40.0, 41.0])
    assert ours["gain_ci95"] == pytest.approx(interval, abs=1e-4)
    assert ours["gain_over_baseline_long"] is None  # not run
    assert (ours["paper_ap"], ours["paper_gain"]) == (62.5, 6.4)
    assert (ours["parameters"], ours["flops"], ours["fps"]) == (630000, 2e9, 40.0)
    assert ours["train_seconds"] == 20.0
    assert ours["config"] == "mini/dino_r18_synthkitti.py"
    assert rows["teacher"]["ap"] == [65.0] and rows["teacher"]["gain_ci95"] is None
    assert rows["baseline"]["gain"] is None
    missing = rows["fitnet"]
    assert (missing["status"], missing["ap"], missing["ap_mean"]) == ("not run", [], None)
    assert content["not_significant"] == []  # the smallest difference is 5, an interval +-3.04


def test_a_failed_run_is_named_in_its_row(written):
    files = written("5", ["baseline", "memory_mask"], memory_mask="fail")
    row = rows_of(files)["memory_mask"]
    assert row["status"] == "failed"
    assert [one["seed"] for one in row["failed"]] == [0, 1]
    assert "CUDA out of patience" in row["failed"][0]["reason"]
    page = files[".md"].read_text()
    assert "| memory_mask  | -       | FAILED" in page
    assert "memory_mask, seed 1, failed:" in page and "    CUDA out of patience" in page
    write_report(files[".md"].parent, TABLES["5"], stored(files[".md"].parent, TABLES["5"], "mini"))
    assert files[".md"].read_text() == page


def test_the_page_says_what_was_measured_and_what_is_not_significant(written):
    page = written(
        "5",
        ["baseline", "memory", "memory_mask"],
        **{"baselines/": 40.0, "memory_mask": 50.2, "memory_dino": 50.0},
    )[".md"].read_text()
    # both standard deviations 0.71: standard error 0.71, 2 degrees of freedom, t = 4.303
    assert "| memory_mask  | 0 1     | 50.7 ± 0.7 | +10.2 [+7.2, +13.2]" in page
    assert "| clockdistill | -       | not run" in page
    _, _, significance = page.partition("## Differences that are not significant")
    assert "memory_mask over memory: +0.2 [-2.8, +3.2]" in significance
    assert "memory over baseline" not in significance
    assert "not KITTI" in page and "does not cover the choice of training and test images" in page
    assert "(table5_mini.png)" in page and "python tools/reproduce.py --table 5" in page


def test_a_difference_that_rounds_to_zero_has_no_minus(written):
    page = written("5", ["memory", "memory_mask"], memory_mask=50.0, memory_dino=50.04)
    assert "memory_mask over memory: +0.0 [-3.1, +3.0]" in page[".md"].read_text()


def not_significant(files):
    content = json.loads(files[".json"].read_text())
    return {(pair["row"], pair["other"]) for pair in content["not_significant"]}


def test_only_students_that_are_compared_are_named_as_not_significant(written):
    files = written("4", ["baseline", "clockdistill", "baseline_long", "clockdistill_long"])
    assert not_significant(files) == {  # all have the same AP
        ("clockdistill", "baseline"),
        ("baseline_long", "baseline"),
        ("baseline_long", "clockdistill"),
        ("clockdistill_long", "baseline_long"),
    }
    files = written("2", ["dino_r18/baseline", "dab_detr_r18/baseline"])
    assert not_significant(files) == {("dino_r18/clockdistill", "dino_r18/baseline")}


def test_the_page_names_the_row_of_each_gain(written):
    page = written("2", ["dino_r18/baseline"])[".md"].read_text()
    assert "- dino_r18/clockdistill: gain over dino_r18/baseline\n" in page
    assert "- dino_r18/baseline" not in page


def test_a_stored_row_that_the_table_no_longer_has_is_refused(written):
    file = written("5", ["baseline"])[".json"]
    file.write_text(file.read_text().replace('"memory_mask"', '"masked"'))
    with pytest.raises(ValueError, match="no longer has: masked. Fix: delete it"):
        stored(file.parent, TABLES["5"], "mini")


def test_the_csv_has_one_figure_in_each_cell(written):
    files = written("5", ["baseline", "memory"], **{"baselines/": 40.0, "memory_dino": 50.0})
    with files[".csv"].open() as handle:
        rows = {row["row"]: row for row in csv.DictReader(handle)}
    assert (rows["memory"]["seeds"], rows["memory"]["ap"]) == ("0 1", "50.0 51.0")
    ends = [float(rows["memory"][f"gain_ci95_{end}"]) for end in ("low", "high")]
    assert sum(ends) / 2 == pytest.approx(10.0)
    assert (rows["clockdistill"]["ap_mean"], rows["clockdistill"]["status"]) == ("", "not run")


COMMITTED = sorted(
    tuple(file.stem.removeprefix("table").split("_"))
    for file in (ROOT / "reproduction/results").glob("*.json")
    if not file.stem.startswith("runs_")
)


@pytest.mark.parametrize(("name", "scale"), COMMITTED)
def test_the_committed_tables_follow_from_their_seeds(name, scale, tmp_path):
    committed = ROOT / "reproduction/results"
    files = write_report(tmp_path, TABLES[name], stored(committed, TABLES[name], scale))
    *texts, picture = files  # the picture depends on matplotlib's version
    for file in texts:
        assert file.read_text() == (committed / file.name).read_text()
    assert np.asarray(Image.open(picture)).std() > 10


def study(name, **ap):
    """What runs of a study would have left, by row; other rows were not run."""
    costs = dict.fromkeys(("parameters", "flops", "fps", "fps_on", "train_seconds", "steps"))
    lists = {"failed": [], "not_run": [], "commits": [], "machines": []}
    means = {f"{metric.lower()}_mean": None for metric in METRICS[1:]}
    rows = [
        {"row": row.name, "status": "ok", "seeds": [*range(len(values))], "ap": values}
        | {**lists, **costs, **means}
        for row in TABLES[name].rows
        for values in [ap.get(row.name, [])]
    ]
    made = {"command": "python tools/reproduce.py", "overrides": [], "versions": {}}
    return {"table": name, "scale": "few", "rows": rows, **made}


@pytest.mark.parametrize(("name", "row"), [("labels", "baseline_50"), ("teachers", "teacher")])
def test_the_picture_of_a_study_is_its_curve(tmp_path, name, row):
    ap = {"clockdistill": [48.0, 50.0], "teacher": [65.0], "clockdistill_50": [30.0]}
    pictures = []
    for more in ({}, {row: [20.0]}):
        files = write_report(tmp_path, TABLES[name], study(name, **{**ap, **more}))
        pictures.append(np.asarray(Image.open(files[3])))
    assert not np.array_equal(*pictures)


def test_a_measurement_that_fails_leaves_its_cells_empty(written, tools):
    (tools.folder / "analyze_model.py").write_text("raise SystemExit('no ruler')")
    row = rows_of(written("5", ["baseline"]))["baseline"]
    assert row["status"] == "ok"
    assert row["parameters"] is None and row["flops"] is None and row["fps"] is None
