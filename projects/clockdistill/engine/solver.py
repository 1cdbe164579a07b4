"""Optimizer with a learning rate per part of the model, and the length of the warm-up."""

import copy
import logging
from collections.abc import Mapping
from typing import Any

from detectron2.config import instantiate
from omegaconf import DictConfig, ListConfig
from torch import nn
from torch.optim import Optimizer

from projects.clockdistill.engine.config_file import ConfigError

logger = logging.getLogger(__name__)


def build_optimizer(node: DictConfig, model: nn.Module) -> Optimizer:
    """Builds `cfg.optimizer` over a model's parameters.

    Args:
        node: a lazy call whose `params` is a lazy call that takes `model`.
        model: the model to train.
    """
    node = copy.deepcopy(node)
    node.params.model = model
    optimizer = instantiate(node)
    for group in optimizer.param_groups:
        for key, value in group.items():
            # the groups are saved in checkpoints, which must load without pickled code
            if isinstance(value, ListConfig):
                group[key] = tuple(value)
    return optimizer


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Restores what an optimizer has accumulated; its settings stay those it was built with.

    Learning rates, weight decay and the like are thus those of the config, also where it changed
    since the checkpoint. The schedule multiplies a group's "initial_lr".

    Args:
        optimizer: as `build_optimizer` returns it.
        state: `state_dict()` of an optimizer of the same groups.

    Raises:
        ConfigError: if the groups differ.
    """
    settings = [
        {key: value for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    ]
    try:
        optimizer.load_state_dict(state)
    except ValueError as error:
        raise ConfigError(
            f"the checkpoint's optimizer has other parameter groups than the config's ({error}).\n"
            "Fix: use the optimizer and the trained parts of the config.yaml of the run"
        ) from error
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own, initial_lr=own["lr"])


def parameter_groups(
    model: nn.Module, *, base_lr: float, lr_factors: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Returns the optimizer's groups, which hold only parameters that require a gradient.

    Frozen parts (a teacher, a frozen ResNet stage) are in no group: the optimizer keeps no state
    for them and weight decay does not change them.

    Args:
        model: a detector, or a module that contains one.
        base_lr: learning rate of every parameter that `lr_factors` does not name.
        lr_factors: whole part of a parameter's name (`sampling_offsets`, `backbone.res5`) -> its
            rate as a fraction of `base_lr`; the first key that a name contains applies.

    Returns:
        The group of the remaining parameters, then one group per part, in order; a part without
        parameters has none.

    Raises:
        ConfigError: if no parameter requires a gradient.
    """
    rates = {None: base_lr} | {part: base_lr * factor for part, factor in lr_factors.items()}
    members: dict[str | None, list[nn.Parameter]] = {part: [] for part in rates}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # whole parts: "reference_points" is not "reference_points_head"
            part = next((part for part in lr_factors if f".{part}." in f".{name}."), None)
            members[part].append(parameter)
    for part, parameters in members.items():
        name = "all others" if part is None else part
        if parameters:
            logger.info("learning rate of %s: %g (%d tensors)", name, rates[part], len(parameters))
        elif part is not None:
            logger.warning("optimizer.params.lr_factors.%s: no trained parameter has it", part)
    groups = [
        {"params": parameters, "lr": rates[part]}
        for part, parameters in members.items()
        if parameters
    ]
    if not groups:
        raise ConfigError("model: no parameter requires a gradient, so there is nothing to train")
    return groups


def warmup_length(*, steps: int, max_iter: int) -> float:
    """Returns the length of a warm-up as a fraction of the run, which is what detectron2 takes.

    At most half: a short trial run would otherwise never reach the full rate. A config cannot
    compute this itself, since interpolation knows no arithmetic.

    Args:
        steps: steps of the warm-up.
        max_iter: steps of the run.
    """
    return min(0.5, steps / max_iter)
