"""Tests that other pixels, strides, position encodings and classes than a file's are noticed."""

import logging
from pathlib import Path

import pytest
import torch
import train_net
from detectron2.config import instantiate
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.resnet import BasicStem
from omegaconf import OmegaConf
from torch import nn

from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.checkpoint_names import CAFFE, IMAGENET, Origin
from projects.clockdistill.engine.checks import check_channel_order, check_config
from projects.clockdistill.engine.config_file import ConfigError, load_config
from projects.clockdistill.engine.conventions import (
    class_difference,
    differences,
    teacher_classes,
)
from projects.clockdistill.engine.teacher import load_teacher
from projects.clockdistill.engine.weights import CheckpointError
from tests.modeling.tiny_detectors import tiny_config
from tests.tiny_predictor import write_run
from tests.tiny_run import DISTILLED, PLAIN, register_drawings, tiny_overrides

SPEC = (
    '{"class_names": ["car", "bus", "Person sitting"], "input_format": "%s", '
    '"pixel_mean": [123.675, 116.28, 103.53], "pixel_std": [58.395, 57.12, 57.375]}'
)


def detector(**options: object) -> nn.Module:
    return instantiate({**tiny_config("dino"), **options})


def saved(folder: Path, model: nn.Module, spec: str | None) -> str:
    DetectorCheckpointer(model, str(folder), model_spec=spec).save("model_final")
    return str(folder / "model_final.pth")


def test_pixels_are_compared() -> None:
    assert not differences(Origin(pixels=IMAGENET), detector())
    assert not differences(Origin(), detector())
    (found,) = differences(Origin(pixels=CAFFE), detector())
    assert "trained with BGR images, mean [103.53,116.28,123.675], deviation [1,1,1]" in found
    assert "Fix: set input_format=BGR pixel_mean=[103.53,116.28,123.675]" in found
    bgr = detector(input_format="BGR", pixel_mean=CAFFE.mean, pixel_std=CAFFE.std)
    assert not differences(Origin(pixels=CAFFE), bgr)


@pytest.mark.parametrize("in_1x1", [False, True])
def test_strides_are_compared(in_1x1: bool) -> None:
    with torch.device("meta"):
        stages = ResNet.make_default_stages(50, stride_in_1x1=in_1x1, norm="FrozenBN")
        backbone = ResNet(BasicStem(3, 64, norm="FrozenBN"), stages)
    assert not differences(Origin(stride_in_1x1=in_1x1), backbone)
    (found,) = differences(Origin(stride_in_1x1=not in_1x1), backbone)
    assert f"Fix: set backbone.stages.stride_in_1x1={not in_1x1}" in found


def test_positions_are_compared() -> None:
    assert not differences(Origin(positions=(10000.0, -0.5)), detector())
    (found,) = differences(Origin(positions=(20.0, 0.0)), detector())
    assert "Fix: set position_embedding.temperature=20 position_embedding.offset=0" in found


def test_weights_of_other_pixels_are_a_start_with_a_warning_and_no_teacher(tmp_path, caplog):
    path = saved(tmp_path, detector(), SPEC % "BGR")
    with caplog.at_level(logging.WARNING):
        DetectorCheckpointer(detector()).load_initial(path)
    assert "it was trained with BGR images" in caplog.text
    with pytest.raises(CheckpointError, match="it was trained with BGR images"):
        load_teacher(detector(), path)
    load_teacher(detector(input_format="BGR"), path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["car", "bus", "Person sitting"], None),
        (["Car", "BUS", "person_sitting"], None),
        (["bus", "car", "Person sitting"], "in another order .* from class 0 on car, bus, .* bus,"),
        (["car", "bus", "truck"], "of other names .* class 2 on Person sitting, in the data truck"),
        (["car", "bus"], "with 3 classes of other names than the data's 2: .* in the data none"),
    ],
)
def test_classes_of_a_file_must_be_those_of_the_data(tmp_path, names, words) -> None:
    path = saved(tmp_path, detector(), SPEC % "RGB")
    reader = DetectorCheckpointer(detector())
    for load in (
        lambda: reader.load_exact(path, "train.init_checkpoint", class_names=names),
        lambda: load_teacher(detector(), path, names),
    ):
        if words is None:
            load()
        else:
            with pytest.raises(CheckpointError, match=f"{words}.*\n?.*Fix: name weights"):
                load()


def test_files_and_data_without_names_are_not_compared(tmp_path: Path) -> None:
    assert class_difference(None, ["a"]) is None
    assert class_difference(["a"], None) is None
    path = saved(tmp_path, detector(), None)
    DetectorCheckpointer(detector()).load_exact(path, "key", class_names=["x", "y", "z"])


def test_start_from_other_classes_is_a_warning(tmp_path: Path, caplog) -> None:
    path = saved(tmp_path, detector(), SPEC % "RGB")
    DetectorCheckpointer(detector()).load_initial(path, ["bus", "car", "Person sitting"])
    assert "3 classes in another order than the data's" in caplog.text


def test_model_spec_that_says_nothing_is_only_a_warning(tmp_path: Path, caplog) -> None:
    path = saved(tmp_path, detector(), "[1")
    DetectorCheckpointer(detector()).load_exact(path, "key", class_names=["x"])
    assert "model_spec of the checkpoint describes no detector" in caplog.text


def test_evaluation_refuses_data_in_another_order(tmp_path: Path) -> None:
    overrides = tiny_overrides(tmp_path)
    weights = write_run(load_config(PLAIN, overrides)) / "model_final.pth"
    command = ["--config-file", PLAIN, "--eval-only", *overrides]
    command.append(f"train.init_checkpoint={weights}")
    train_net.main(command)
    register_drawings("drawings_val", tmp_path / "again", classes=("green", "red"))
    with pytest.raises(SystemExit, match="another order .* on red, green, in the data green, red"):
        train_net.main(command)


def test_teacher_with_a_class_map_may_have_other_classes(tmp_path: Path) -> None:
    cfg = load_config(DISTILLED, [*tiny_overrides(tmp_path, DISTILLED)])
    assert list(teacher_classes(cfg)) == ["red", "green"]
    cfg.model.class_map = [1, 0]
    assert teacher_classes(cfg) is None


def test_channel_orders_are_checked_with_the_config(tmp_path: Path) -> None:
    cfg = load_config(PLAIN, [*tiny_overrides(tmp_path), "train.device=cpu"])
    cfg.model.input_format = "BGR"
    check_config(cfg)
    cfg.model.input_format = "HSV"
    with pytest.raises(ConfigError, match=r"model\.input_format=HSV: expected RGB or BGR"):
        check_config(cfg)
    # a detector that is not ours reads images as they come
    other = OmegaConf.create({"_target_": "torch.nn.Identity", "input_format": "BGR"})
    with pytest.raises(ConfigError, match=r"model\.input_format=BGR: Identity .*\nFix: use RGB"):
        check_channel_order(other)
