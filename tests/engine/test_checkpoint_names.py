"""Tests the key maps against full key and shape lists of other projects' models.

data/original_checkpoints.json.gz holds per model the repository, its commit, the options and the
keys and shapes of its state dict, as its own code builds it.
"""

import gzip
import json
from pathlib import Path

import pytest
import torch
import torchvision
from detectron2.config import instantiate
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.resnet import BasicStem
from torch import Tensor, nn

from projects.clockdistill.configs.models.dab_detr import dab_detr
from projects.clockdistill.configs.models.deformable_detr import deformable_detr
from projects.clockdistill.configs.models.dino import dino
from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.checkpoint_names import CAFFE, IMAGENET, translate
from projects.clockdistill.engine.weight_fit import Fit

ORIGINALS = json.loads(
    gzip.decompress((Path(__file__).parent / "data/original_checkpoints.json.gz").read_bytes())
)
CONFIGS = {"dino": dino, "dab_detr": dab_detr}


def wanted(name: str, num_classes: int) -> dict[str, Tensor]:
    """Returns the state of our model of an entry, without values."""
    config = CONFIGS.get(name, deformable_detr)(50, num_classes)
    if name.startswith("deformable_detr_"):
        config.with_box_refine = True
        config.as_two_stage = name.endswith("two_stage")
    with torch.device("meta"):
        return instantiate(config).state_dict()


def theirs(name: str) -> dict[str, Tensor]:
    shapes = ORIGINALS[name]["shapes"]
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


@pytest.mark.parametrize("num_classes", [80, 91])  # COCO's classes; as the repositories count them
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name", ORIGINALS)
def test_originals_fill_every_key_and_leave_none(name: str, num_classes: int, prefix: str) -> None:
    ours = wanted(name, num_classes)
    state, origin = translate({prefix + k: v for k, v in theirs(name).items()}, ours)
    fit = Fit.compare(state, ours)
    assert (fit.misfits, fit.unexpected, origin.ignored) == ([], (), {})
    assert origin.project.startswith("the original ")
    assert (origin.class_names is not None) == (num_classes == 80)
    assert origin.pixels == IMAGENET


def test_classes_are_found_by_cocos_ids() -> None:
    ours = wanted("dab_detr", 80)
    state = theirs("dab_detr")
    state["class_embed.bias"] = torch.arange(91.0)
    biases = translate(state, ours)[0]["class_embed.bias"]
    # ids 12, 26, 29, 30, ... are not used: the 12th class, stop sign, has id 13, the last id 90
    assert biases[:13].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14]
    assert (len(biases), biases[-1]) == (80, 90)


class _WithBackbone(nn.Module):
    """R50 with frozen normalisation and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ResNet(
            stem=BasicStem(3, 64, norm="FrozenBN"),
            stages=ResNet.make_default_stages(50, norm="FrozenBN", stride_in_1x1=False),
            out_features=["res5"],
        )
        self.head = nn.Linear(2, 2)


@pytest.fixture(scope="module")
def resnet() -> dict[str, Tensor]:
    with torch.device("meta"):
        return torchvision.models.resnet50(weights=None).state_dict()


@pytest.fixture(scope="module")
def backbone() -> dict[str, Tensor]:
    with torch.device("meta"):
        return _WithBackbone().state_dict()


@pytest.mark.parametrize(
    "prefix",
    [
        "",  # torchvision, timm
        "module.",
        "module.encoder_q.",  # MoCo v1, v2
        "module.base_encoder.",  # MoCo v3
        "backbone.",  # mmdetection, mmselfsup
        "model.encoder.",
        "backbone.body.",  # torchvision's detectors
    ],
)
def test_resnets_fill_the_backbone(resnet, backbone, prefix: str) -> None:
    state = {prefix + key: value for key, value in resnet.items()}
    slow = prefix.replace("encoder_q", "encoder_k").replace("base_", "momentum_")
    state |= {slow + key: value[None] for key, value in resnet.items() if slow != prefix}
    renamed, origin = translate(state, backbone)
    fit = Fit.compare(renamed, backbone)
    assert fit.missing == ("head.weight", "head.bias")
    assert not fit.wrong_shape and not fit.unexpected
    fit.require_start()
    slow = slow.removeprefix("module.")
    assert all("fc." in key or key.startswith(slow) for key in origin.ignored)
    assert (origin.pixels, origin.stride_in_1x1) == (IMAGENET, False)


@pytest.mark.parametrize("prefix", ["", "backbone.bottom_up."])
def test_detectron2s_models_fill_the_backbone(backbone, prefix: str) -> None:
    state = {
        prefix + key.removeprefix("backbone."): value
        for key, value in backbone.items()
        if key.startswith("backbone.")
    }
    state["roi_heads.box_predictor.cls_score.weight"] = torch.empty(81, 4)
    renamed, origin = translate(state, backbone)
    Fit.compare(renamed, backbone).require_start()
    assert list(origin.ignored) == ["roi_heads.box_predictor.cls_score.weight"]


def caffe2_name(key: str) -> str:
    """Returns Caffe2's name of one of our backbone's keys."""
    key = key.removeprefix("backbone.")
    for ours, name in (
        ("stem.conv1.norm.weight", "res_conv1_bn_s"),
        ("stem.conv1.norm.bias", "res_conv1_bn_b"),
        ("stem.", ""),
        ("shortcut", "branch1"),
        (".conv1", ".branch2a"),
        (".conv2", ".branch2b"),
        (".conv3", ".branch2c"),
        ("norm.weight", "bn_s"),
        ("norm.bias", "bn_b"),
        ("weight", "w"),
        (".norm.", "."),
        (".", "_"),
    ):
        key = key.replace(ours, name)
    return key


def test_caffe2s_names_fill_the_backbone_and_tell_their_pixels(backbone) -> None:
    state = {
        caffe2_name(key): torch.ones(value.shape)
        for key, value in backbone.items()
        if key.startswith("backbone.") and "running" not in key
    }
    assert {"conv1_w", "res_conv1_bn_s", "res2_0_branch2a_bn_b", "res5_2_branch2c_w"} <= set(state)
    state |= {"fc1000_w": torch.ones(1000, 2048), "conv1_b": torch.zeros(64)}
    renamed, origin = translate(state, backbone)
    Fit.compare(renamed, backbone).require_start()
    # the statistics are part of scale and shift: normalisation by mean 0 and variance 1
    assert not renamed["backbone.res2.0.conv1.norm.running_mean"].any()
    assert (renamed["backbone.res2.0.conv1.norm.running_var"] == 1).all()
    assert set(origin.ignored) == {"fc1000.weight", "stem.conv1.bias"}
    assert (origin.pixels, origin.stride_in_1x1) == (CAFFE, True)


def test_own_names_stay(backbone) -> None:
    state, origin = translate(backbone, backbone)
    assert state == dict(backbone)
    assert origin.project == "clockdistill"


def test_momentum_copy_with_more_keys_is_left_out(tmp_path: Path) -> None:
    query, key = (torchvision.models.resnet50(weights=None).state_dict() for _ in range(2))
    state = {f"module.encoder_q.{k}": v for k, v in query.items()}
    state |= {f"module.encoder_k.{k}": v for k, v in key.items()}
    state["module.queue"] = torch.zeros(4, 8)
    torch.save({"state_dict": state, "arch": "resnet50", "epoch": 200}, tmp_path / "moco.pth.tar")
    model = _WithBackbone()
    DetectorCheckpointer(model).load_initial(str(tmp_path / "moco.pth.tar"))
    assert torch.equal(model.backbone.stem.conv1.weight, query["conv1.weight"])


@pytest.mark.parametrize("prefix", ["model.", "student.", "detector.net."])
def test_detectors_inside_another_module_are_found(prefix: str) -> None:
    for name, state in (("dino", theirs("dino")), ("dab_detr", wanted("dab_detr", 80))):
        ours = wanted(name, 80)
        inside = {prefix + key: value for key, value in state.items()}
        inside |= {f"teacher.{key}": value for key, value in state.items()}
        inside["queue"] = torch.empty(2)
        renamed, origin = translate(inside, ours)
        Fit.compare(renamed, ours).require_exact(allow_unexpected=False)
        assert set(origin.ignored) == {"queue", *(key for key in inside if "teacher" in key)}


@pytest.mark.parametrize(
    ("author", "pixels"),
    [("torchvision", IMAGENET), ("Caffe2", CAFFE), ("Detectron2 Model Zoo", CAFFE), ("", None)],
)
def test_pixels_of_detectron2s_files_follow_their_author(backbone, author, pixels) -> None:
    state = {key.removeprefix("backbone."): value for key, value in backbone.items()}
    assert translate(state, backbone, author)[1].pixels == pixels
