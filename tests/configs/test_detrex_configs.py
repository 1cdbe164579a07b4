"""Configs of real detrex as ours take them; nothing here needs detrex."""

import sys

import pytest
from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import ResNet
from omegaconf import OmegaConf

from projects.clockdistill.configs.models.detrex import HOW_TO_INSTALL, tied, with_resnet
from projects.clockdistill.configs.models.dino import dino
from projects.clockdistill.configs.models.distill import distill
from projects.clockdistill.engine.config_file import ConfigError, load_config
from projects.clockdistill.modeling.adapters import DetrexDINOAdapter, DINOAdapter


class DINO:
    """Stands for detrex's class of that name."""


def detrex_like(**changes):
    """As much of a detrex config as is changed or read."""
    stages = L(ResNet.make_default_stages)(depth=50, stride_in_1x1=False, norm="FrozenBN")
    parts = {
        "backbone": {"stages": stages},
        "neck": {"input_shapes": {"res3": [512], "res4": [1024], "res5": [2048]}},
        "embed_dim": 256,
        "num_classes": 80,
        "criterion": {"num_classes": 80},
        "device": "cuda",
    }
    return L(DINO)(**(parts | changes))


def test_tied_detectors_follow_device_and_classes_of_the_config():
    detector = detrex_like()
    model = distill(student=tied(detector), teacher=tied(detector), adapter=DetrexDINOAdapter)
    cfg = OmegaConf.create(
        {"model": model, "train": {"device": "cpu"}}, flags={"allow_objects": True}
    )
    cfg.model.student.num_classes = 7
    for role in ("student", "teacher"):
        node = cfg.model[role]
        assert node.device == "cpu"
        assert node.num_classes == node.criterion.num_classes == 7
    assert (detector.device, detector.num_classes) == ("cuda", 80)  # detrex's own is unchanged


def test_a_teacher_may_be_of_another_family():
    model = distill(
        student=dino(depth=18),
        teacher=tied(detrex_like()),
        adapter=DINOAdapter,
        teacher_adapter=DetrexDINOAdapter,
    )
    assert model.student_adapter._target_ is DINOAdapter
    assert model.teacher_adapter._target_ is DetrexDINOAdapter


def test_another_depth_changes_blocks_and_channels():
    detector = detrex_like()
    shallow = with_resnet(detector, depth=18)
    assert dict(shallow.backbone.stages) == {
        "_target_": ResNet.make_default_stages,
        "depth": 18,
        "norm": "FrozenBN",
    }
    assert [shape.channels for shape in shallow.neck.input_shapes.values()] == [128, 256, 512]
    assert detector.backbone.stages.depth == 50
    assert with_resnet(detector, depth=101).backbone.stages.stride_in_1x1 is False


def test_another_depth_of_a_detector_on_the_last_stage():
    detector = detrex_like(in_features=["res5"], in_channels=2048)
    del detector.neck
    assert with_resnet(detector, depth=18).in_channels == 512


def test_without_detrex_a_config_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "projects.dino.configs.models", None)  # as if absent
    with pytest.raises(ConfigError, match="real detrex is needed: pip install") as caught:
        load_config("detrex/dino_r18_coco.py", [])
    assert HOW_TO_INSTALL in str(caught.value)
