"""The state of a run: started, resumed, skipped, started anew, copied, failed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from projects.clockdistill.engine import environment
from reproduction.execution import execute, print_commands
from reproduction.lock import exclusive
from reproduction.runs import (
    Action,
    begin,
    finish,
    next_action,
    read_record,
    result,
)


@pytest.fixture
def run_of(tools, plan_of):
    """The run of a row's first seed."""

    def make(row="baseline", table=4, **options):
        return plan_of(table, **options).runs[row][0]

    return make


def carry_out(*runs, root=None, at_once=1):
    root = root or runs[0].folder.parents[2]
    with exclusive(root) as lock:
        execute([runs], root, at_once, lock)


def test_a_run_is_run_once(tools, run_of):
    run = run_of()
    assert next_action(run) == (Action.START, "not run yet")
    assert result(run) is None
    carry_out(run)
    assert len(tools.calls()) == 1
    record = result(run)
    assert record["status"] == "ok"
    assert record["metrics"]["AP"] == 50.0
    assert record["train_seconds"] == 20.0  # 40 steps of 0.5 s
    assert record["steps"] == 1600
    assert record["command"].startswith("python ")
    assert {"config", "config_hash", "commits", "versions", "machine"} <= record.keys()
    carry_out(run)
    assert tools.calls() == []


def test_an_interrupted_run_is_resumed(tools, run_of):
    run = run_of()
    begin(run, Action.START)
    assert read_record(run.folder)["status"] == "running"
    assert next_action(run)[0] is Action.START  # there is nothing to resume from
    (run.folder / "last_checkpoint").write_text("model_0000999.pth")
    (run.folder / "metrics.json").write_text('{"iteration": 19, "time": 2.0}\n')
    assert next_action(run) == (Action.RESUME, "running before")
    carry_out(run)
    (call,) = tools.calls()
    assert "--resume" in call
    # 20 steps of 2 s before, 40 of 0.5 s, of which 20 were logged before too and count once
    assert result(run)["train_seconds"] == 40.0 + 10.0 + 10.0


def test_a_failed_run_says_why_and_is_resumed(tools, run_of, capsys):
    run = run_of()
    tools.behave(baselines="fail")
    carry_out(run)
    assert "baseline, seed 0 FAILED: exit code 1" in capsys.readouterr().out
    record = result(run)
    assert record["status"] == "failed"
    assert "CUDA out of patience" in record["reason"]
    assert next_action(run) == (Action.RESUME, "failed before")
    tools.behave()
    carry_out(run)
    assert result(run)["status"] == "ok"


@pytest.mark.parametrize("change", ["optimizer.lr=1e-3", "train.max_iter=10"])
def test_another_config_starts_anew_in_the_same_place(tools, run_of, small_data, change):
    carry_out(run_of())
    changed = run_of(overrides=(*small_data, change))
    assert result(changed) is None
    assert next_action(changed) == (Action.START, "its config has changed")
    (changed.folder / "old").touch()
    carry_out(changed)
    assert not (changed.folder / "old").exists()
    assert "--resume" not in tools.calls()[-1]


def test_another_teacher_starts_its_students_anew(tools, run_of, tmp_path):
    weights = tmp_path / "teacher.pth"
    weights.write_text("one")
    run = run_of("kd_detr", teacher=str(weights))
    carry_out(run)
    assert next_action(run)[0] is Action.NOTHING
    weights.write_text("another")
    assert next_action(run) == (Action.START, "its teacher has changed")
    assert result(run) is None


def test_other_initial_weights_start_anew(tools, plan_of, small_data, tmp_path):
    weights = tmp_path / "backbone.pth"
    weights.write_text("one")
    start = (*small_data, f"train.init_checkpoint={weights}")
    run = plan_of(4, overrides=start).runs["baseline"][0]
    carry_out(run)
    assert next_action(run)[0] is Action.NOTHING
    weights.write_text("another")
    assert next_action(run) == (Action.START, "its initialisation has changed")


def test_initial_weights_that_are_not_there_are_refused(plan_of, small_data):
    with pytest.raises(ValueError, match=r"train\.init_checkpoint=.*no such file"):
        plan_of(4, overrides=(*small_data, "train.init_checkpoint=none.pth"))


def test_other_data_starts_anew(tools, run_of):
    run = run_of()
    carry_out(run)
    record = read_record(run.folder)
    record["inputs"]["test_data"] = "of other scenes"
    (run.folder / "run.json").write_text(json.dumps(record))
    assert next_action(run) == (Action.START, "its test data has changed")


def test_a_teacher_whose_weights_are_gone_is_trained_again(tools, plan_of):
    (teacher,) = plan_of(4, teacher="train").teachers.values()
    carry_out(teacher, root=teacher.folder.parents[2])
    assert next_action(teacher)[0] is Action.NOTHING
    teacher.weights.unlink()
    assert next_action(teacher) == (Action.START, "model_final.pth is gone")


def test_a_run_without_a_teacher_s_weights_fails_and_keeps_what_it_had(tools, plan_of, capsys):
    run = plan_of(4, teacher="train").runs["mgd"][0]
    run.folder.mkdir(parents=True)
    (run.folder / "model_0000999.pth").touch()
    carry_out(run)
    assert tools.calls() == []
    assert "its teacher has no weights" in result(run)["reason"]
    assert (run.folder / "model_0000999.pth").exists()


def test_a_run_of_the_same_content_is_copied(tools, plan_of, capsys):
    run = plan_of(4).runs["clockdistill"][0]
    other = plan_of(5).runs["clockdistill"][0]
    assert run.folder != other.folder
    carry_out(run)
    tools.calls()
    carry_out(other)
    assert tools.calls() == []
    assert f"the same as {run.folder}" in capsys.readouterr().out
    assert result(other) == result(run)
    assert next_action(other)[0] is Action.NOTHING


def test_another_seed_is_another_run(tools, plan_of):
    first, second = plan_of(4).runs["clockdistill"]
    carry_out(first)
    carry_out(second)
    assert len(tools.calls()) == 2
    assert [result(run)["metrics"]["AP"] for run in (first, second)] == [50.0, 51.0]


def test_a_run_that_leaves_no_result_has_failed(tools, run_of):
    run = run_of()
    begin(run, Action.START)
    assert finish(run, 0) == "it ended without results.json"
    assert result(run)["status"] == "failed"


def test_a_torn_record_is_no_record(tools, run_of):
    run = run_of()
    carry_out(run)
    (run.folder / "run.json").write_text('{"status": "o')
    assert next_action(run) == (Action.START, "not run yet")


def test_commits_of_all_attempts_are_kept(tools, run_of, monkeypatch):
    run = run_of()
    monkeypatch.setattr(environment, "commit", lambda: "one")
    tools.behave(baselines="fail")
    carry_out(run)
    monkeypatch.setattr(environment, "commit", lambda: "two")
    tools.behave()
    carry_out(run)
    assert result(run)["commits"] == ["one", "two"]


def test_the_shipped_teacher_is_only_evaluated(tools, plan_of):
    (teacher,) = plan_of(4).teachers.values()
    carry_out(teacher)
    (call,) = tools.calls()
    assert "--eval-only train.init_checkpoint=" in call
    assert result(teacher)["steps"] is None


def test_commands_are_printed_as_they_would_run(tools, run_of, capsys):
    run = run_of()
    root = run.folder.parents[2]
    print_commands([[run]], root)
    command = capsys.readouterr().out
    carry_out(run)
    here = f"{Path.cwd()}/"
    assert tools.calls()[0].replace(here, "") in command
    capsys.readouterr()
    print_commands([[run]], root)
    assert capsys.readouterr().out == "# baseline, seed 0: done\n"
    several = replace(run, num_gpus=8)
    assert "--num-gpus 8" in " ".join(several.command(Action.START))
