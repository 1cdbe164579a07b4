"""Tests that weights are compared with the model before any is loaded."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from detectron2.config import instantiate
from torch import Tensor, nn

from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.teacher import load_teacher
from projects.clockdistill.engine.weight_fit import Fit, Misfit, shortened
from projects.clockdistill.engine.weights import CheckpointError
from tests.modeling.tiny_detectors import tiny_config, tiny_dino

FOO = {"foo.weight": torch.zeros(3)}


def frozen_dino() -> nn.Module:
    """Returns a DINO whose backbone's normalisation fills in statistics that a file lacks."""
    config = tiny_config("dino")
    config.backbone.stem.norm = config.backbone.stages.norm = "FrozenBN"
    return instantiate(config)


def saved(tmp_path: Path, state: dict[str, Tensor]) -> str:
    torch.save(state, tmp_path / "weights.pth")
    return str(tmp_path / "weights.pth")


def load_for(use: str, model: nn.Module, path: str) -> None:
    if use == "start":
        DetectorCheckpointer(model).load_initial(path)
    elif use == "evaluation":
        DetectorCheckpointer(model).load_exact(path, "train.init_checkpoint")
    else:
        load_teacher(model, path)


def values(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("build", [tiny_dino, frozen_dino])
@pytest.mark.parametrize("use", ["start", "evaluation", "teacher"])
def test_file_of_another_model_is_refused_and_nothing_changes(tmp_path, build, use) -> None:
    model, path = build(), saved(tmp_path, FOO)
    before = values(model)
    with pytest.raises(CheckpointError, match=r"none of its keys fits.*foo\.weight.*\nFix: "):
        load_for(use, model, path)
    torch.testing.assert_close(values(model), before, rtol=0, atol=0)


@pytest.mark.parametrize("use", ["start", "evaluation", "teacher"])
def test_weights_without_running_statistics_are_refused(tmp_path: Path, use: str) -> None:
    model = frozen_dino()
    state = {k: v for k, v in values(model).items() if "running_" not in k}
    path = saved(tmp_path, state)
    with pytest.raises(CheckpointError, match=r"running_mean: not in the file.*and \d+ more"):
        load_for(use, model, path)


def test_detector_whose_backbone_is_not_filled_is_no_start(tmp_path: Path) -> None:
    state = values(tiny_dino())
    state.pop("backbone.res3.0.conv1.weight")
    with pytest.raises(CheckpointError, match=r"does not fit this backbone:\n  backbone\.res3"):
        DetectorCheckpointer(tiny_dino()).load_initial(saved(tmp_path, state))


def test_warning_has_five_lines_of_what_is_missing(tmp_path: Path, caplog) -> None:
    state = {k: v for k, v in values(tiny_dino()).items() if k.startswith(("backbone", "neck"))}
    DetectorCheckpointer(tiny_dino()).load_initial(saved(tmp_path, state))
    (record,) = [r for r in caplog.records if "fills" in r.message]
    lines = record.message.splitlines()
    assert len(lines) <= 6
    assert lines[1].startswith("  transformer.")
    assert "transformer.decoder: " in record.message


def test_counters_are_neither_missing_nor_unexpected() -> None:
    norm = nn.BatchNorm2d(3).state_dict()
    without = {k: v for k, v in norm.items() if k != "num_batches_tracked"}
    for one, other in ((norm, without), (without, norm)):
        Fit.compare(one, other).require_exact(allow_unexpected=False)


def test_most_important_comes_first() -> None:
    model = {key: torch.zeros(2) for key in ("bbox_embed.b", "class_embed.b", "backbone.w", "x.y")}
    fit = Fit.compare({"x.y": torch.zeros(3)}, model)
    assert [line.partition(":")[0] for line in fit.misfits] == [
        "backbone.w",
        "class_embed.b",
        "bbox_embed.b",
        "x.y",
    ]
    assert fit.misfits[-1] == "x.y: (3,) in the file, (2,) in the model"
    with pytest.raises(Misfit, match="none of its keys"):
        fit.require_exact()


def test_many_lines_are_counted_by_part() -> None:
    lines = [f"{part}.{n}.w: not in the file" for part in "abcdefg" for n in range(3)]
    text = shortened(lines).splitlines()
    assert len(text) == 5
    assert text[-1] == "  and 17 more"
    lines = [f"transformer.decoder.{n}.w: not in the file" for n in range(9)] + ["head.w: new"]
    assert shortened(lines).splitlines() == [
        "  transformer.decoder: 9 keys, first transformer.decoder.0.w: not in the file",
        "  head.w: new",
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    state = values(tiny_dino())
    state["class_embed.0.bias"][1] = value
    path = saved(tmp_path, state)
    for load in (
        DetectorCheckpointer(tiny_dino()).load_initial,
        lambda p: load_teacher(tiny_dino(), p),
    ):
        with pytest.raises(
            CheckpointError, match=r"_checkpoint=.* not finite:\n  class_embed\.0\.bias: 1 of 3"
        ):
            load(path)


def test_weights_with_two_names_need_one_in_the_file(tmp_path: Path) -> None:
    model, other = tiny_dino(seed=1), tiny_dino(seed=2)
    safetensors.torch.save_model(model, str(tmp_path / "one_name.safetensors"))
    names = safetensors.torch.load_file(tmp_path / "one_name.safetensors")
    assert len(names) < len(model.state_dict())
    DetectorCheckpointer(other).load_exact(str(tmp_path / "one_name.safetensors"), "key")
    torch.testing.assert_close(values(other), values(model), rtol=0, atol=0)


def test_weights_that_are_one_in_the_model_must_be_equal_in_the_file(tmp_path: Path) -> None:
    state = values(instantiate(tiny_config("deformable_detr")))
    state["bbox_embed.1.layers.2.bias"] += 1
    path = saved(tmp_path, state)
    with pytest.raises(CheckpointError, match=r"different weights where the model has one:\n"):
        load_for("evaluation", instantiate(tiny_config("deformable_detr")), path)


def test_pickled_modules_are_named(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(CheckpointError, match=r"objects of .*Linear.*\nFix: .*state_dict"):
        DetectorCheckpointer(nn.Linear(2, 2)).load_initial(str(tmp_path / "module.pth"))
