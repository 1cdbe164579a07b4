"""Parameter groups of the DETR family: some parts learn more slowly than the rest."""

import copy
from collections.abc import Mapping
from typing import Any

from detectron2.config import instantiate
from omegaconf import DictConfig, ListConfig
from torch import nn
from torch.optim import Optimizer


def build_optimizer(node: DictConfig, model: nn.Module) -> Optimizer:
    """Build ``cfg.optimizer`` over a model's parameters.

    Args:
        node: a lazy call whose ``params`` is a lazy call that takes ``model``.
        model: what is to be trained.
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


def learning_parts(
    model: nn.Module, *, base_lr: float, lr_factors: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return the optimiser's groups, of parameters that require a gradient only.

    Frozen parts (a teacher, frozen stages) enter no group: the optimiser keeps no state of
    them and weight decay does not touch them.

    Args:
        model: a detector, or a module that holds one.
        base_lr: learning rate of all that ``lr_factors`` does not name.
        lr_factors: for parts of parameters' names (``backbone``, ``sampling_offsets``) their rate
            as a part of ``base_lr``; the first one that a name contains holds.

    Returns:
        The group of the rest, then one per part, in order; a part without parameters has none.

    Raises:
        ValueError: if nothing requires a gradient.
    """
    rates = {None: base_lr} | {part: base_lr * factor for part, factor in lr_factors.items()}
    members: dict[str | None, list[nn.Parameter]] = {part: [] for part in rates}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            names = name.split(".")
            members[next((part for part in lr_factors if part in names), None)].append(parameter)
    groups = [
        {"params": parameters, "lr": rates[part]}
        for part, parameters in members.items()
        if parameters
    ]
    if not groups:
        raise ValueError("no parameter of the model requires a gradient: there is nothing to train")
    return groups
