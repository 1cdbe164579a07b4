"""tools/calibrate.py from end to end, on the mini config and drawn scenes."""

import json
import os
import signal
from pathlib import Path

import calibrate
import pytest
import torch
import train_net
from detectron2.config import instantiate

from projects.clockdistill.analysis import run_plan
from projects.clockdistill.data import ensure_tree, register_kitti
from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.engine.trainer import Trainer

CONFIG = "mini/dino_r18_synthkitti.py"
SHORT = [
    "dataloader.train.dataset.names=calibration_train",
    "dataloader.test.dataset.names=calibration_val",
    "dataloader.train.total_batch_size=2",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
]
MEMORY = "loss_distill_memory"


@pytest.fixture(scope="module", autouse=True)
def scenes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Twenty frames under a name of their own."""
    root = ensure_tree(tmp_path_factory.mktemp("data") / "s", frames=20)
    register_kitti("calibration", root=root)


def losses(
    tmp_path: Path, *overrides: str, batches: int = 2, options: list[str] | None = None
) -> dict[str, dict]:
    file = tmp_path / "new folder/scales.json"
    command = ["--config-file", CONFIG, "--batches", str(batches), "--json", str(file)]
    calibrate.main([*command, *(options or []), *SHORT, *overrides])
    figures = json.loads(file.read_text())
    assert figures["config_file"] == CONFIG and figures["batches"] == batches
    assert figures["overrides"] == [*SHORT, *overrides]
    return {loss["name"]: loss for loss in figures["losses"]}


def refused(*arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        calibrate.main([*arguments])
    return str(caught.value)


def test_every_loss_has_a_row_and_a_json_entry(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = losses(tmp_path)
    assert list(found) == [
        "detection",
        MEMORY,
        f"{MEMORY}.foreground",
        f"{MEMORY}.background",
        "loss_distill_class",
        "loss_distill_bbox",
        "loss_distill_giou",
    ]
    assert found[MEMORY]["weights"] == {
        "model.token_weights.alpha": 0.3,
        "model.token_weights.beta": 0.2,
    }
    printed = capsys.readouterr().out
    assert all(f"| {name} " in printed for name in found)
    assert (
        "2 batches of 2 images of calibration_train; student: projects/clockdistill/weights/r18"
        in printed
    )
    assert "train.init_checkpoint=PATH" in printed  # the fresh box heads' gradient is 0
    assert not (tmp_path / "output").exists()  # it is no run


def test_the_first_batch_is_what_training_begins_with(tmp_path: Path) -> None:
    options = ["train.max_iter=1", "train.log_period=1", f"train.output_dir={tmp_path / 'run'}"]
    train_net.main(["--config-file", CONFIG, *SHORT, *options])
    logged = json.loads((tmp_path / "run/metrics.json").read_text().splitlines()[0])
    found = losses(tmp_path, batches=1)
    measured = {name: loss["value"]["median"] for name, loss in found.items()}
    for name in ("memory", "class", "bbox", "giou"):
        key = f"loss_distill_{name}"
        assert measured[key] == pytest.approx(logged[key], rel=1e-5)
        measured["detection"] += measured[key]
    assert measured["detection"] == pytest.approx(logged["total_loss"], rel=1e-5)


def test_advised_weights_help(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "weights.txt"
    small = ["model.token_weights.alpha=1e-6", "model.token_weights.beta=1e-6"]
    found = losses(tmp_path, *small, options=["--write", str(file)])[MEMORY]
    assert found["relative_at_neck"] < 0.01
    assert found["warning"].startswith(f"the gradient of {MEMORY} is 0.")
    printed = capsys.readouterr().out
    assert f"warning: {found['warning']}" in printed and f"{file}: 2 advised weights" in printed

    advised = file.read_text().split()
    assert all(override in found["warning"] for override in advised)
    changed = losses(tmp_path, *advised)[MEMORY]
    assert changed["relative_at_neck"] == pytest.approx(0.1, rel=0.05)  # two digits are given
    assert changed["warning"] is None and "warning:" not in capsys.readouterr().out


def test_another_student_and_a_missing_teacher(tmp_path: Path) -> None:
    fresh = losses(tmp_path, batches=1)["detection"]["value"]["median"]
    model = instantiate(load_config(CONFIG, []).model.student)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    torch.save({"model": model.state_dict()}, tmp_path / "student.pth")
    other = losses(tmp_path, f"train.init_checkpoint={tmp_path / 'student.pth'}", batches=1)
    assert other["detection"]["value"]["median"] != pytest.approx(fresh, rel=1e-3)

    message = refused("--config-file", CONFIG, *SHORT, "model.teacher_checkpoint=nowhere.pth")
    assert message.startswith("error: model.teacher_checkpoint=nowhere.pth")


def test_a_plain_detector_is_refused() -> None:
    message = refused("--config-file", "mini/baselines/dino_r18_synthkitti.py", *SHORT)
    assert "trains a plain detector" in message and "Fix: name a distillation config" in message


def test_a_plan_knows_both_detectors_time_and_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "plan.json"
    command = ["--config-file", CONFIG, "--batches", "2", "--plan", "--json", str(file), *SHORT]
    steps = ["train.max_iter=1000", "train.eval_period=300"]
    calibrate.main([*command, *steps])
    plan = json.loads(file.read_text())["plan"]
    assert plan["teacher"] > 20 and plan["student"] is None  # the student has a backbone only
    assert plan["metric"] == "bbox/AP" and plan["device"] == "cpu"
    assert (plan["images"], plan["steps"], plan["evaluations"]) == (2, 1000, 4)
    seconds = 1000 * plan["step_seconds"]["median"] + 4 * plan["evaluation_seconds"]
    assert plan["run_seconds"] == pytest.approx(seconds)
    assert 2**27 < plan["memory_bytes"] < 2**36
    printed = capsys.readouterr().out
    assert "whole run: 1,000 steps, 4 evaluations" in printed
    assert "train.init_checkpoint holds no whole detector" in printed


def test_a_plan_evaluates_a_student_that_has_trained(tmp_path: Path) -> None:
    run, file = tmp_path / "run", tmp_path / "plan.json"
    overrides = [*SHORT, "train.max_iter=1"]  # fewer steps than the plan times
    train_net.main(["--config-file", CONFIG, *overrides, f"train.output_dir={run}"])
    trained = f"train.init_checkpoint={run / 'model_final.pth'}"
    command = ["--config-file", CONFIG, "--batches=1", "--plan", f"--json={file}"]
    calibrate.main([*command, *overrides, trained])
    measured = json.loads((run / "results.json").read_text())["bbox"]["AP"]
    assert json.loads(file.read_text())["plan"]["student"] == pytest.approx(measured)


def test_a_plan_compiles_what_the_run_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(run_plan, "compile_model", compiled.append)
    monkeypatch.setattr(calibrate, "check_compiler", lambda device: None)
    command = ["--config-file", CONFIG, "--batches=1", "--plan", *SHORT]
    calibrate.main([*command, "train.compile=True"])
    (model,) = compiled
    assert hasattr(model, "teacher")


def test_ctrl_c_ends_the_steps_of_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer.run_step

    def interrupted_step(trainer: Trainer) -> None:
        step(trainer)
        assert trainer.iter == 0
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "run_step", interrupted_step)
    with pytest.raises(SystemExit) as caught:
        calibrate.main(["--config-file", CONFIG, "--batches=1", "--plan", *SHORT])
    assert caught.value.code == 130
