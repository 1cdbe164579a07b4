"""Which runs a table needs."""

import pytest

from reproduction.plan import Options, make_plan
from reproduction.table import Row, Table
from reproduction.tables import EQUAL_TIME, LONG, TABLES


def test_a_row_has_a_run_for_each_seed_and_a_teacher_one(plan_of):
    plan = plan_of(4, seeds=(3, 5))
    assert len(plan.runs["teacher"]) == 1
    assert [run.overrides[-1] for run in plan.runs["fgd"]] == ["train.seed=3", "train.seed=5"]
    folders = [run.folder for runs in plan.runs.values() for run in runs]
    assert len(set(folders)) == len(folders)
    assert all(plan.options.folder in folder.parents for folder in folders)


def test_tables_share_the_runs_that_are_the_same(plan_of):
    for seed in (0, 1):
        same = [plan_of(number).runs["baseline"][seed].folder for number in (1, 4, 5)]
        assert len(set(same)) == 1


def test_longer_baselines_follow_the_config_and_the_overrides(plan_of, small_data):
    for overrides, steps in (((), 1600), (("train.max_iter=100",), 100)):
        plan = plan_of(4, overrides=(*small_data, *overrides))
        assert plan.runs["baseline"][0].steps == steps
        assert plan.runs["baseline_equal_time"][0].steps == round(EQUAL_TIME * steps)
        assert plan.runs["baseline_long"][0].steps == round(LONG * steps)


def test_layers_differ_at_mini_scale_by_overrides(plan_of):
    plan = plan_of(6)
    overrides = plan.runs["3_6/clockdistill"][0].overrides
    assert "model.student.transformer.encoder.num_layers=1" in overrides
    assert "model.student.transformer.decoder.num_layers=2" in overrides
    hashes = {runs[0].config_hash for runs in plan.runs.values()}
    assert len(hashes) == len(plan.runs)


def test_teachers_come_first_and_then_seed_by_seed(plan_of):
    first, rest = plan_of(2, teacher="train").phases(["dino_r18/baseline", "dab_detr_r18/teacher"])
    assert first == []
    assert [run.title for run in rest] == [
        "dino_r18/baseline, seed 0",
        "teacher teachers/dab_detr_r50_synthkitti",
        "dino_r18/baseline, seed 1",
    ]
    first, rest = plan_of(4, teacher="train").phases(["teacher", "mgd", "kd_detr"])
    assert [run.title for run in first] == ["teacher teachers/dino_r50_synthkitti"]
    assert [run.title for run in rest] == [
        f"{row}, seed {seed}" for seed in (0, 1) for row in ("mgd", "kd_detr")
    ]


def test_shipped_weights_stand_for_a_training(plan_of):
    first, rest = plan_of(4).phases(["mgd"])
    assert first == []
    assert {run.teacher.name for run in rest} == {"dino_r50_synthkitti.safetensors"}
    # where one teacher is shipped and others are not, these are trained
    first, _ = plan_of(2).phases([row.name for row in TABLES[2].rows_at("mini")])
    assert [run.title for run in first] == [
        "teacher teachers/dab_detr_r50_synthkitti",
        "teacher teachers/deformable_detr_r50_synthkitti",
    ]


def test_a_teacher_of_one_s_own_is_measured_and_taught_from(plan_of, tmp_path):
    weights = tmp_path / "mine.pth"
    weights.touch()
    plan = plan_of(4, teacher=str(weights))
    assert plan.runs["teacher"][0].evaluates == weights
    assert plan.runs["mgd"][0].teacher == weights


def test_teachers_that_do_not_fit_are_refused(plan_of, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.pth: there is no such file"):
        plan_of(4, teacher="nowhere.pth")
    weights = tmp_path / "mine.pth"
    weights.touch()
    with pytest.raises(ValueError, match="the table has 3 teachers"):
        plan_of(2, teacher=str(weights))
    with pytest.raises(ValueError, match="--teacher shipped: no weights of teachers/dino_r50"):
        plan_of(4, scale="full", teacher="shipped", overrides=())


def test_a_missing_config_is_named(tmp_path):
    configs = {"mini": "mini/baselines/dino_r81_synthkitti.py"}
    table = Table(9, "", "", (Row("baseline", configs),), {})
    options = Options("mini", (0,), (), "shipped", tmp_path)
    with pytest.raises(ValueError, match="dino_r81_synthkitti.py: there is no such file; did you"):
        make_plan(table, options)


def test_an_override_that_no_config_has_is_refused(plan_of):
    with pytest.raises(ValueError, match="unknown config key train.max_itr"):
        plan_of(5, overrides=("train.max_itr=3",))
