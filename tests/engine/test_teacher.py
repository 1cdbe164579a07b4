"""Tests that a teacher that was not loaded, or is no better than chance, is noticed."""

import logging
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetMapper, build_detection_test_loader, get_detection_dataset_dicts
from torch import nn

from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.teacher import check_teacher, load_teacher
from projects.clockdistill.engine.weights import CheckpointError
from tests.modeling.tiny_detectors import tiny_dino
from tests.tiny_run import OracleDetector, register_drawings


@pytest.fixture
def loader(tmp_path: Path):
    register_drawings("drawings_val", tmp_path / "drawings_val", images=8)
    mapper = DatasetMapper(is_train=False, augmentations=[], image_format="RGB")
    records = get_detection_dataset_dicts("drawings_val", filter_empty=False)
    return build_detection_test_loader(records, mapper=mapper, num_workers=0)


def _detections_of(detector: nn.Module):
    """Returns the callable that the check needs."""
    detector.eval()
    return lambda batched_inputs: [result["instances"] for result in detector(batched_inputs)]


def test_whole_checkpoint_loads(tmp_path: Path) -> None:
    saved, teacher = nn.Linear(2, 3), nn.Linear(2, 3)
    DetectorCheckpointer(saved, str(tmp_path)).save("model_final")
    load_teacher(teacher, str(tmp_path / "model_final.pth"))
    assert torch.equal(teacher.weight, saved.weight)


@pytest.mark.parametrize("bias", [False, True])
def test_checkpoint_that_does_not_fit_is_refused_with_the_key(tmp_path: Path, bias: bool) -> None:
    torch.save(nn.Linear(2, 3, bias=bias).state_dict(), tmp_path / "teacher.pth")
    with pytest.raises(CheckpointError, match=r"model\.teacher_ch.*\n  bias.*\nFix: name a check"):
        teacher = nn.Linear(2, 3, bias=not bias)
        load_teacher(teacher, str(tmp_path / "teacher.pth"))


@pytest.mark.parametrize(
    ("checkpoint", "config"),
    [
        ("", "teachers/<config>"),
        (None, "teachers/<config>"),
        ("output/mini/teachers/x/model_final.pth", "mini/teachers/x"),
    ],
)
def test_missing_checkpoint_is_refused_with_the_command_that_writes_it(checkpoint, config) -> None:
    with pytest.raises(CheckpointError, match=f"train_net.py --config-file .*/configs/{config}.py"):
        load_teacher(nn.Linear(2, 3), checkpoint)


def test_good_teacher_passes_quietly(loader, caplog: pytest.LogCaptureFixture) -> None:
    result = check_teacher(
        _detections_of(OracleDetector("drawings_val")), loader, "drawings_val", images=6
    )
    assert result.passed
    # 8 images of which the 4th and the 8th are empty
    assert (result.ap50, result.images) == (pytest.approx(100.0), 6)
    assert result.chance < 50.0
    assert "CHANCE" not in caplog.text


@pytest.mark.parametrize("kind", ["random", "shifted"])
def test_teacher_no_better_than_chance_is_warned_about(
    loader, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    shifted = OracleDetector("drawings_val", shift=1)
    teacher = tiny_dino(num_classes=2) if kind == "random" else shifted
    result = check_teacher(_detections_of(teacher), loader, "drawings_val", images=6)
    assert not result.passed
    assert "THE TEACHER IS NO BETTER THAN CHANCE" in caplog.text
    assert f"AP50 {result.ap50:.1f} on 6 test images" in caplog.text
    assert "train.teacher_check_images=0" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING


def test_check_draws_nothing_from_the_generators(loader) -> None:
    detect = _detections_of(tiny_dino(num_classes=2))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    check_teacher(detect, loader, "drawings_val", images=2)
    assert torch.equal(torch.rand(1), expected)


def test_zero_images_disable_the_check(loader) -> None:
    detect = _detections_of(OracleDetector("drawings_val"))
    assert check_teacher(detect, loader, "drawings_val", images=0) is None


def test_a_teacher_of_other_classes_is_refused_with_the_class_map(tmp_path: Path) -> None:
    teacher = nn.ModuleDict({"class_embed": nn.Linear(2, 7)})
    torch.save({"model": teacher.state_dict()}, tmp_path / "t")
    with pytest.raises(CheckpointError, match=r"Fix: .*set model\.teacher\.num_classes.*class_map"):
        load_teacher(nn.ModuleDict({"class_embed": nn.Linear(2, 3)}), str(tmp_path / "t"))
