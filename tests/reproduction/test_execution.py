"""Runs are started, resumed, skipped and started again."""

import json

import pytest

from projects.clockdistill.data import ensure_tree
from projects.clockdistill.engine import environment
from reproduction import execution
from reproduction.execution import execute, next_action, result, training_seconds


@pytest.fixture
def run_of(tools, plan_of):
    """The run of a row's first seed."""

    def make(row="baseline", table="4", **options):
        plan = plan_of(table, **options)
        return plan.runs(plan.table.row(row))[0]

    return make


def interrupted(run):
    """Leaves the folder of a run that was killed after a checkpoint."""
    execute([run], 1)
    record = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps({**record, "status": "running"}))


def test_a_finished_run_is_skipped(tools, run_of):
    run = run_of()
    assert next_action(run) == ("start", "not run yet")
    assert result(run) is None
    execute([run], 1)
    assert len(tools.calls()) == 1
    record = result(run)
    assert record["status"] == "ok"
    assert record["metrics"]["AP"] == 50.0
    assert record["train_seconds"] == 20.0  # 40 steps of 0.5 s
    assert record["steps"] == 40
    execute([run], 1)
    assert tools.calls() == []


def test_an_interrupted_run_is_resumed(tools, run_of, monkeypatch):
    run = run_of()
    monkeypatch.setattr(environment, "commit", lambda: "one")
    interrupted(run)
    tools.calls()
    assert next_action(run) == ("resume", "running before")
    monkeypatch.setattr(environment, "commit", lambda: "two")
    execute([run], 1)
    (call,) = tools.calls()
    assert "--resume" in call
    assert result(run)["commits"] == ["one", "two"]
    assert result(run)["steps"] == 60


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(tools, run_of):
    run = run_of()
    interrupted(run)
    (run.folder / "last_checkpoint").unlink()
    assert next_action(run) == ("start", "running before its first checkpoint")
    (run.folder / "run.json").write_text('{"status": "o')
    assert next_action(run) == ("start", "not run yet")


def test_a_failed_run_says_why_and_is_resumed(tools, run_of, capsys):
    run = run_of()
    tools.behave(baselines="fail")
    execute([run], 1)
    assert "baseline, seed 0 FAILED: exit code 1" in capsys.readouterr().out
    assert result(run)["status"] == "failed"
    assert "CUDA out of patience" in result(run)["reason"]
    assert next_action(run) == ("resume", "failed before")
    tools.behave()
    execute([run], 1)
    assert result(run)["status"] == "ok"


@pytest.mark.parametrize("change", ["optimizer.lr=1e-3", "train.max_iter=10"])
def test_another_config_starts_again_in_an_empty_folder(tools, run_of, small_data, change):
    execute([run_of("kd_detr")], 1)
    changed = run_of("kd_detr", overrides=(*small_data, change))
    assert result(changed) is None
    assert next_action(changed) == ("start", "its config changed")
    (changed.folder / "old").touch()
    execute([changed], 1)
    assert not (changed.folder / "old").exists()


def test_other_weights_start_again_and_missing_ones_do_not(tools, run_of, tmp_path, small_data):
    weights, backbone = tmp_path / "teacher.pth", tmp_path / "backbone.pth"
    weights.write_text("one")
    backbone.write_text("one")
    overrides = (*small_data, f"train.init_checkpoint={backbone}")
    run = run_of("kd_detr", teacher=str(weights), overrides=overrides)
    execute([run], 1)
    assert next_action(run)[0] == "done"
    for file, name in ((weights, "teacher"), (backbone, "initial weights")):
        file.write_text("another")
        assert next_action(run) == ("start", f"its {name} changed")
        assert result(run) is None
        file.write_text("one")
    weights.unlink()
    assert next_action(run)[0] == "done"


def test_other_data_starts_again(tools, run_of, tmp_path, monkeypatch):
    run = run_of()
    execute([run], 1)
    ensure_tree(tmp_path / "same" / "kitti", frames=20)
    ensure_tree(tmp_path / "other" / "kitti", frames=20, seed=1)
    for name, expected in (
        ("same", ("done", "done")),
        ("other", ("start", "its test data changed")),
    ):
        monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / name))
        execution.data_digest.cache_clear()
        assert next_action(run) == expected
    execution.data_digest.cache_clear()


def test_other_training_data_starts_again(tools, run_of, monkeypatch):
    run = run_of()
    execute([run], 1)
    digest_of = execution.data_digest
    monkeypatch.setattr(
        execution, "data_digest", lambda name: "x" if name == "kitti_train" else digest_of(name)
    )
    assert next_action(run) == ("start", "its training data kitti_train changed")


def test_a_teacher_without_its_weights_is_trained_again(tools, plan_of):
    plan = plan_of("4", teacher="train")
    (teacher,) = plan.runs(plan.table.row("teacher"))
    execute([teacher], 1)
    assert next_action(teacher, need_weights=True)[0] == "done"
    (teacher.folder / "model_final.pth").unlink()
    assert next_action(teacher, need_weights=True) == ("start", "its weights are gone")
    tools.calls()
    execute([teacher], 1, need_weights=plan.teachers_of(plan.runs(plan.table.row("baseline"))))
    assert tools.calls() == []
    execute([teacher], 1, need_weights=plan.teachers_of(plan.runs(plan.table.row("kd_detr"))))
    assert len(tools.calls()) == 1


def test_repeated_steps_count_once(tmp_path):
    # 60 steps, resumed at 20: 20 steps of 0.5 s and 40 of 0.1 s. The line of an evaluation has no
    # time of its own.
    before = [{"iteration": step, "time": 0.5} for step in (19, 39, 59)]
    after = [{"iteration": step, "time": 0.1} for step in (39, 59)]
    assert training_seconds([*before, {"iteration": 59, "bbox/AP": 3.0}, *after]) == 14.0
    assert training_seconds([]) is None
