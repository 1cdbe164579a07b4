"""Parameter groups and the optimiser built from them."""

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig
from torch import nn

import projects.clockdistill
from projects.clockdistill.engine.param_groups import build_optimizer, learning_parts
from tests.fakes import FakeCriterion, FakeDetector, FakeDistiller


def _detector() -> FakeDetector:
    return FakeDetector(num_classes=2, criterion=FakeCriterion(2))


def _names(model: nn.Module, parameters: list) -> set[str]:
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    return {by_id[id(parameter)] for parameter in parameters}


def test_student_learns_in_two_groups_and_the_teacher_in_none() -> None:
    model = FakeDistiller(student=_detector(), teacher=_detector())
    rest, backbone = learning_parts(model, base_lr=1e-3, lr_factors={"backbone": 0.1})
    assert (rest["lr"], backbone["lr"]) == pytest.approx((1e-3, 1e-4))
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(name.startswith("student.backbone.") for name in _names(model, backbone["params"]))
    assert _names(model, rest["params"]) | _names(model, backbone["params"]) == learning
    assert not any(name.startswith(("teacher", "distill")) for name in learning)


def test_frozen_stage_enters_no_group() -> None:
    model = _detector()
    model.backbone.requires_grad_(False)
    groups = learning_parts(model, base_lr=1e-3, lr_factors={"backbone": 0.1})
    assert len(groups) == 1


def test_every_named_part_has_a_rate_of_its_own_and_the_first_name_holds() -> None:
    model = nn.ModuleDict({"backbone": nn.ModuleDict({"offsets": nn.Linear(1, 1)})})
    model["offsets"] = nn.Linear(2, 2)
    model["head"] = nn.Linear(3, 3)
    factors = {"backbone": 0.5, "offsets": 0.1, "absent": 0.2}
    groups = learning_parts(model, base_lr=1.0, lr_factors=factors)
    named = {group["lr"]: _names(model, group["params"]) for group in groups}
    assert named == {
        1.0: {"head.weight", "head.bias"},
        0.5: {"backbone.offsets.weight", "backbone.offsets.bias"},
        0.1: {"offsets.weight", "offsets.bias"},
    }


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to train"):
        learning_parts(
            _detector().requires_grad_(False), base_lr=1e-3, lr_factors={"backbone": 1.0}
        )


def test_common_optimizer_gives_the_backbone_a_tenth() -> None:
    path = Path(projects.clockdistill.__file__).parent / "configs" / "common" / "optim.py"
    cfg = LazyConfig.apply_overrides(LazyConfig.load(str(path)), ["optimizer.lr=2e-4"])
    optimizer = build_optimizer(cfg.optimizer, _detector())
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([2e-4, 2e-5])
    assert {group["weight_decay"] for group in optimizer.param_groups} == {1e-4}
    assert "model" not in cfg.optimizer.params  # the config stays as it was


def test_lists_of_the_config_do_not_stay_in_the_state(tmp_path: Path) -> None:
    node = L(torch.optim.AdamW)(
        params=L(learning_parts)(base_lr=1e-3, lr_factors={"backbone": 1.0}), betas=[0.8, 0.9]
    )
    optimizer = build_optimizer(node, _detector())
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pth")
    state = torch.load(tmp_path / "optimizer.pth", weights_only=True)
    assert state["param_groups"][0]["betas"] == (0.8, 0.9)
