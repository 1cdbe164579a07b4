"""Real detectors on drawn scenes through tools/train_net.py: teacher, student, resume, student."""

import json
from pathlib import Path

import pytest
import torch
import train_net

from projects.clockdistill.data import ensure_tree, register_kitti

SHORT = [
    "dataloader.train.dataset.names=scenes_train",
    "dataloader.test.dataset.names=scenes_val",
    "dataloader.train.total_batch_size=2",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "train.checkpointer.period=2",
    "train.log_period=1",
]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Twenty frames under a name of their own."""
    register_kitti("scenes", root=ensure_tree(tmp_path_factory.mktemp("data") / "s", frames=20))


def run(config: str, output: Path, *arguments: str, options: tuple[str, ...] = ()) -> None:
    command = ["--config-file", f"mini/{config}", *options, *SHORT]
    train_net.main([*command, f"train.output_dir={output}", *arguments])


def logged_losses(output: Path) -> set[str]:
    lines = map(json.loads, (output / "metrics.json").read_text().splitlines())
    return {key for line in lines for key in line if "loss" in key}


@pytest.mark.usefixtures("scenes")
def test_a_teacher_teaches_a_student_that_is_saved_plain(tmp_path: Path) -> None:
    teacher, student, again = tmp_path / "teacher", tmp_path / "student", tmp_path / "again"
    run("teachers/dino_r50_synthkitti.py", teacher, "train.max_iter=2")
    weights = f"model.teacher_checkpoint={teacher / 'model_final.pth'}"
    distil = "dino_r18_synthkitti.py"

    run(distil, student, weights, "train.max_iter=4")
    assert {key for key in logged_losses(student) if "distill" in key} == {
        "loss_distill_memory",
        "loss_distill_class",
        "loss_distill_bbox",
        "loss_distill_giou",
    }
    checkpoint = torch.load(student / "model_final.pth", weights_only=True)
    assert not any("teacher" in key for part in ("model", "distill") for key in checkpoint[part])

    # the plain detector's config evaluates what the distillation saved
    saved = f"train.init_checkpoint={student / 'model_final.pth'}"
    run("baselines/dino_r18_synthkitti.py", again, saved, options=("--eval-only",))
    assert json.loads((again / "results.json").read_text()) == json.loads(
        (student / "results.json").read_text()
    )

    # stopped after two steps and resumed: the same weights, so the same queries drawn afresh
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    for name in ("model_0000001.pth", "config.yaml"):
        (resumed / name).write_bytes((student / name).read_bytes())
    (resumed / "last_checkpoint").write_text("model_0000001.pth")
    run(distil, resumed, weights, "train.max_iter=4", options=("--resume",))
    got = torch.load(resumed / "model_final.pth", weights_only=True)
    for part in ("model", "distill"):
        torch.testing.assert_close(got[part], checkpoint[part])
    assert checkpoint["distill"]["query_groups.general.draws.steps"] == 4
