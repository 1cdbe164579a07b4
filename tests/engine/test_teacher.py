"""A teacher that was not loaded, or knows nothing, does not go unnoticed."""

import logging
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetMapper, build_detection_test_loader, get_detection_dataset_dicts
from torch import nn

from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.teacher import check_teacher, load_teacher
from projects.clockdistill.engine.weights import CheckpointError
from tests.fakes import FakeCriterion, FakeDetector, OracleDetector, register_fake_dataset


@pytest.fixture
def loader(tmp_path: Path):
    register_fake_dataset("fake_val", tmp_path / "fake_val", images=8)
    mapper = DatasetMapper(is_train=False, augmentations=[], image_format="RGB")
    records = get_detection_dataset_dicts("fake_val", filter_empty=False)
    return build_detection_test_loader(records, mapper=mapper, num_workers=0)


def _detections_of(detector: nn.Module):
    """The form in which the check asks for detections."""
    detector.eval()
    return lambda batched_inputs: [result["instances"] for result in detector(batched_inputs)]


def _detector(num_classes: int = 2) -> FakeDetector:
    return FakeDetector(num_classes=num_classes, criterion=FakeCriterion(num_classes))


def test_whole_checkpoint_loads(tmp_path: Path) -> None:
    DetectorCheckpointer(saved := _detector(), str(tmp_path)).save("model_final")
    teacher = _detector()
    load_teacher(teacher, str(tmp_path / "model_final.pth"), allow_pickle=False)
    assert torch.equal(teacher.class_embed.weight, saved.class_embed.weight)


@pytest.mark.parametrize("change", ["missing", "mismatched", "unexpected"])
def test_checkpoint_that_does_not_fit_is_refused_with_the_key(tmp_path: Path, change: str) -> None:
    weights = _detector().state_dict()
    if change == "missing":
        del weights["class_embed.bias"]
    elif change == "mismatched":
        weights["class_embed.bias"] = torch.zeros(9)
    else:
        weights["class_embed.bias.old"] = torch.zeros(2)
    torch.save({"model": weights}, tmp_path / "teacher.pth")
    with pytest.raises(CheckpointError, match=r"class_embed\.bias.*\n.*Give the checkpoint"):
        load_teacher(_detector(), str(tmp_path / "teacher.pth"), allow_pickle=False)


@pytest.mark.parametrize("empty", ["", None])
def test_no_checkpoint_is_refused_with_the_command(empty: str | None) -> None:
    with pytest.raises(CheckpointError, match=r"train_net\.py --config-file .*configs/teachers/"):
        load_teacher(_detector(), empty, allow_pickle=False)


def test_missing_file_names_the_command_that_makes_it() -> None:
    with pytest.raises(CheckpointError, match=r"configs/mini/teachers/dino_x\.py"):
        path = "output/mini/teachers/dino_x/model_final.pth"
        load_teacher(_detector(), path, allow_pickle=False)
    with pytest.raises(CheckpointError, match=r"configs/teachers/<config>\.py"):
        load_teacher(_detector(), "elsewhere/x.pth", allow_pickle=False)


def test_good_teacher_passes_quietly(loader, log: pytest.LogCaptureFixture) -> None:
    result = check_teacher(
        _detections_of(OracleDetector("fake_val")), loader, ["fake_val"], images=6
    )
    assert result.passed
    # 8 images of which the 4th and the 8th are empty
    assert (result.ap50, result.images) == (pytest.approx(100.0), 6)
    assert result.chance < 50.0
    assert "CHANCE" not in log.text


@pytest.mark.parametrize("kind", ["random", "shifted"])
def test_teacher_no_better_than_chance_is_warned_about(
    loader, log: pytest.LogCaptureFixture, kind: str
) -> None:
    teacher = _detector() if kind == "random" else OracleDetector("fake_val", shift=1)
    result = check_teacher(_detections_of(teacher), loader, ["fake_val"], images=6)
    assert not result.passed
    assert "THE TEACHER IS NO BETTER THAN CHANCE" in log.text
    assert f"AP50 {result.ap50:.1f} on 6 test images" in log.text
    assert "train.teacher_check_images=0" in log.text
    assert log.records[-1].levelno == logging.WARNING


def test_check_draws_nothing_from_the_generators(loader) -> None:
    detect = _detections_of(_detector())
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    check_teacher(detect, loader, ["fake_val"], images=2)
    assert torch.equal(torch.rand(1), expected)


def test_zero_images_ask_for_no_proof(loader) -> None:
    assert check_teacher(_detections_of(_detector()), loader, ["fake_val"], images=0) is None
