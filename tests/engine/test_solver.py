"""Tests parameter groups, the optimizer built from them and the learning-rate schedules."""

import math
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from torch import nn

import projects.clockdistill
from projects.clockdistill.engine.config_file import ConfigError
from projects.clockdistill.engine.solver import build_optimizer, load_optimizer, parameter_groups

COMMON = Path(projects.clockdistill.__file__).parent / "configs" / "common"


def names(model: nn.Module, parameters: list) -> set[str]:
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    return {by_id[id(parameter)] for parameter in parameters}


def two_parts() -> nn.ModuleDict:
    return nn.ModuleDict({"backbone": nn.Linear(1, 1), "head": nn.Linear(2, 2)})


def test_every_named_part_has_its_own_rate_and_the_first_name_applies() -> None:
    model = nn.ModuleDict({"backbone": nn.ModuleDict({"offsets": nn.Linear(1, 1)})})
    model["offsets"] = nn.Linear(2, 2)
    model["head"] = nn.Linear(3, 3)
    model["teacher"] = nn.Linear(4, 4).requires_grad_(False)  # frozen: in no group
    factors = {"backbone": 0.5, "offsets": 0.1, "absent": 0.2}
    groups = parameter_groups(model, base_lr=1.0, lr_factors=factors)
    assert {group["lr"]: names(model, group["params"]) for group in groups} == {
        1.0: {"head.weight", "head.bias"},
        0.5: {"backbone.offsets.weight", "backbone.offsets.bias"},
        0.1: {"offsets.weight", "offsets.bias"},
    }


def test_names_are_matched_by_whole_parts_and_useless_ones_are_named(caplog) -> None:
    parts = {"res4": nn.Linear(1, 1), "res5": nn.Linear(2, 2)}
    model = nn.ModuleDict({"backbone": nn.ModuleDict(parts), "head": nn.Linear(3, 3)})
    factors = {"backbone.res5": 0.5, "back": 0.1}
    groups = parameter_groups(model, base_lr=1.0, lr_factors=factors)
    by_rate = {group["lr"]: names(model, group["params"]) for group in groups}
    assert by_rate.keys() == {1.0, 0.5}
    assert by_rate[0.5] == {"backbone.res5.weight", "backbone.res5.bias"}
    assert "optimizer.params.lr_factors.back: no trained parameter" in caplog.text


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to train"):
        parameter_groups(two_parts().requires_grad_(False), base_lr=1e-3, lr_factors={})


def test_common_optimizer_gives_the_backbone_a_tenth() -> None:
    cfg = LazyConfig.load(str(COMMON / "optim.py"))
    cfg = LazyConfig.apply_overrides(cfg, ["optimizer.lr=2e-4"])
    optimizer = build_optimizer(cfg.optimizer, two_parts())
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([2e-4, 2e-5])
    assert {group["weight_decay"] for group in optimizer.param_groups} == {1e-4}
    assert "model" not in cfg.optimizer.params  # the config itself is unchanged


def test_optimizer_state_holds_no_lists_of_the_config(tmp_path: Path) -> None:
    node = L(torch.optim.AdamW)(
        params=L(parameter_groups)(base_lr=1e-3, lr_factors={"backbone": 1.0}), betas=[0.8, 0.9]
    )
    optimizer = build_optimizer(node, two_parts())
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pth")
    state = torch.load(tmp_path / "optimizer.pth", weights_only=True)
    assert state["param_groups"][0]["betas"] == (0.8, 0.9)


def test_a_restored_optimizer_keeps_its_own_rates_and_the_accumulated_state() -> None:
    def optimizer(rate: float, factors: dict[str, float]) -> torch.optim.Optimizer:
        params = L(parameter_groups)(base_lr=rate, lr_factors=factors)
        return build_optimizer(L(torch.optim.AdamW)(params=params, weight_decay=rate), model)

    model = two_parts()
    before = optimizer(1.0, {"backbone": 0.5})
    model["head"](torch.ones(1, 2)).sum().backward()
    before.step()
    now = optimizer(2.0, {"backbone": 0.25})
    load_optimizer(now, before.state_dict())
    assert [(g["lr"], g["initial_lr"], g["weight_decay"]) for g in now.param_groups] == [
        (2.0, 2.0, 2.0),
        (0.5, 0.5, 2.0),
    ]
    assert now.state[model["head"].weight]["step"] == 1
    with pytest.raises(ConfigError, match="other parameter groups"):
        load_optimizer(optimizer(1.0, {}), before.state_dict())


def rates(name: str, max_iter: int) -> list[float]:
    """Returns the factor of every step of a run."""
    cfg = LazyConfig.load(str(COMMON / "schedule.py"))
    cfg.train = LazyConfig.load(str(COMMON / "train.py")).train
    cfg = LazyConfig.apply_overrides(cfg, [f"train.max_iter={max_iter}"])
    schedule = instantiate(cfg[name])
    return [schedule(step / max_iter) for step in range(max_iter)]


@pytest.mark.parametrize(("epochs", "drop"), [(12, 11), (36, 30), (50, 40)])
def test_schedules_of_the_detr_family_drop_once(epochs: int, drop: int) -> None:
    # 10 steps an epoch
    expected = [1.0] * 10 * drop + [0.1] * 10 * (epochs - drop)
    assert rates(f"step_{epochs}ep", max_iter=10 * epochs) == expected


@pytest.mark.parametrize("max_iter", [1, 7, 399, 400, 401, 1600])
def test_mini_schedule_warms_up_for_200_steps_or_half_a_short_run(max_iter: int) -> None:
    def cosine(progress: float) -> float:
        return (1 + math.cos(math.pi * progress)) / 2

    length = min(0.5, 200 / max_iter)
    expected = []
    for step in range(max_iter):
        progress = step / max_iter
        if progress <= length:  # linear, from a thousandth of the full rate
            done = progress / length
            expected.append(0.001 * (1 - done) + cosine(length) * done)
        else:
            expected.append(cosine(progress))
    assert rates("mini", max_iter) == pytest.approx(expected)
