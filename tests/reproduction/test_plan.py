"""The runs that a table needs."""

import pytest

from projects.clockdistill.engine.config_file import CONFIGS, load_config
from reproduction.plan import OF_CONFIG
from reproduction.tables import TABLES


def titles(runs):
    return [run.title for run in runs]


def test_a_row_has_a_run_for_each_seed_and_a_teacher_one(plan_of):
    plan = plan_of("4", seeds=(3, 5))
    runs = {row.name: plan.runs(row) for row in plan.rows}
    assert len(runs["teacher"]) == 1
    assert ["train.seed=3" in run.overrides for run in runs["fgd"]] == [True, False]
    folders = [run.folder for group in runs.values() for run in group]
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize(("table", "scale"), [("4", "few"), ("5", "few"), ("readings", "mid")])
def test_rows_of_a_scale_have_their_own_numbers_of_seeds_and_folders(plan_of, table, scale):
    plan = plan_of(table, scale=scale, seeds=None)
    runs = {row.name: plan.runs(row) for row in plan.rows}
    folders = [run.folder for group in runs.values() for run in group]
    assert len(set(folders)) == len(folders)
    assert [len(group) for group in runs.values()] == [
        1 if row.is_teacher else row.seeds[scale] for row in plan.rows
    ]


def test_students_with_few_labels_never_load_the_other_labels(plan_of):
    plan = plan_of("4", scale="few", overrides=())
    for row in plan.rows:
        (*_, run) = plan.runs(row)
        cfg = load_config(str(CONFIGS / run.config), list(run.overrides))
        names = cfg.dataloader.train.dataset.names
        all_labels = row.name in ("teacher", "baseline_all_labels")
        assert names == ("synthkitti_train" if all_labels else "synthkitti_few_train"), row.name


def test_an_override_of_the_command_line_replaces_that_of_a_scale(plan_of, small_data):
    plan = plan_of("4", scale="few", overrides=(*small_data, "train.max_iter=20"))
    for name, steps in (("kd_detr", 20), ("baseline_twice", 40)):
        run = plan.runs(plan.table.row(name))[0]
        cfg = load_config(str(CONFIGS / run.config), list(run.overrides))
        assert cfg.dataloader.train.dataset.names == "kitti_train"
        assert cfg.train.max_iter == steps


def test_tables_share_a_run_by_its_config(plan_of):
    same = [
        ("mini", "1", "backbone", "4", "fitnet"),
        ("mini", "1", "memory", "5", "memory"),
        ("mini", "4", "baseline", "5", "baseline"),
        ("mini", "2", "dino_r18/clockdistill", "4", "clockdistill"),
        ("few", "4", "memory_mask", "5", "memory_mask"),
    ]
    for scale, number, name, other_number, other_name in same:
        one, other = plan_of(number, scale=scale), plan_of(other_number, scale=scale)
        first = one.runs(one.table.row(name))
        second = other.runs(other.table.row(other_name))
        assert [run.command for run in first] == [run.command for run in second]
        assert [run.folder for run in first] == [run.folder for run in second]


def test_a_folder_is_that_of_one_command(plan_of, monkeypatch):
    config = "mini/dino_r18_synthkitti.py"
    monkeypatch.setitem(OF_CONFIG, ("few", config), ("model.logit_loss.cls_weight=7",))
    plans = [plan_of(table.name, scale="few") for table in TABLES.values() if "few" in table.scales]
    commands = {}
    for one in plans:
        for row in one.rows:
            (first, _) = runs = one.runs(row) * (2 if row.is_teacher else 1)
            for run in runs:
                assert commands.setdefault(run.folder, run.command) == run.command
            weighted = "model.logit_loss.cls_weight=7" in first.overrides
            assert weighted == (row.configs["few"] == config), row.name


def test_longer_rows_follow_the_config_and_the_overrides(plan_of, small_data):
    for overrides, steps in (((), 1600), (("train.max_iter=100",), 100)):
        plan = plan_of("4", overrides=(*small_data, *overrides))
        equal_time, long = (
            plan.runs(plan.table.row(f"baseline_{name}"))[0] for name in ("equal_time", "long")
        )
        assert equal_time.overrides[-1] == f"train.max_iter={round(1.6 * steps)}"
        assert long.overrides[-1] == f"train.max_iter={4 * steps}"


def test_layers_differ_at_scale_mini_by_overrides(plan_of):
    plan = plan_of("6")
    (run, _) = plan.runs(plan.table.row("3_6/clockdistill"))
    assert run.config == "mini/dino_r18_synthkitti.py"
    assert "model.student.transformer.encoder.num_layers=1" in run.overrides
    assert "model.student.transformer.decoder.num_layers=2" in run.overrides


def test_teachers_come_first_and_then_seed_by_seed(plan_of):
    plan = plan_of("4", teacher="train")
    rows = [plan.table.row(name) for name in ("teacher", "mgd", "kd_detr")]
    teachers, others = plan.phases(rows)
    assert titles(teachers) == ["teachers/dino_r50_synthkitti"]
    assert titles(others) == [
        f"{row}, seed {seed}" for seed in (0, 1) for row in ("mgd", "kd_detr")
    ]


def test_an_undistilled_r50_and_the_teacher_of_r18_are_one_run(plan_of):
    plan = plan_of("2", scale="full", teacher="train", overrides=())
    names = ("dab_detr_r50/baseline", "dab_detr_r18/clockdistill")
    teachers, others = plan.phases([plan.table.row(name) for name in names])
    assert titles(teachers) == ["teachers/dab_detr_r50_kitti"]
    assert titles(others) == [
        "dab_detr_r18/clockdistill, seed 0",
        "dab_detr_r50/baseline, seed 1",
        "dab_detr_r18/clockdistill, seed 1",
    ]
    names = ("dab_detr_r50/baseline", "dab_detr_r18/teacher")
    teachers, others = plan.phases([plan.table.row(name) for name in names])
    assert titles([*teachers, *others]) == [
        "teachers/dab_detr_r50_kitti",
        "dab_detr_r50/baseline, seed 1",
    ]


def test_shipped_weights_are_evaluated_and_other_teachers_are_trained(plan_of):
    plan = plan_of("4")
    (teacher,) = plan.runs(plan.table.row("teacher"))
    assert "--eval-only" in teacher.options
    assert "dino_r50_synthkitti.safetensors" in teacher.overrides[-1]
    assert plan.phases([plan.table.row("mgd")])[0] == []
    plan = plan_of("2")
    assert titles(plan.phases(plan.rows)[0]) == [
        "teachers/dab_detr_r50_synthkitti",
        "teachers/deformable_detr_r50_synthkitti",
    ]


def test_teachers_that_do_not_fit_are_refused(plan_of, tmp_path):
    with pytest.raises(ValueError, match="nowhere.pth: there is no such file"):
        plan_of("4", teacher="nowhere.pth")
    weights = tmp_path / "mine.pth"
    weights.touch()
    assert (
        plan_of("4", teacher=str(weights)).weights("mini/teachers/dino_r50_synthkitti.py")
        == weights
    )
    with pytest.raises(ValueError, match="one checkpoint for the table's 3 teachers"):
        plan_of("2", teacher=str(weights))
    with pytest.raises(ValueError, match="there are no weights of teachers/dino_r50"):
        plan_of("4", scale="full", teacher="shipped", overrides=())
