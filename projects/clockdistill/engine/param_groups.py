"""Parameter groups of the DETR family: the backbone learns more slowly than the rest."""

import copy
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


def backbone_and_rest(
    model: nn.Module, *, base_lr: float, backbone_lr_factor: float
) -> list[dict[str, Any]]:
    """Return the optimiser's groups, of parameters that require a gradient only.

    Frozen parts (a teacher, frozen stages) enter no group: the optimiser keeps no state of
    them and weight decay does not touch them.

    Args:
        model: a detector, or a module that holds one; backbone parameters are those with
            ``backbone`` among the parts of their name.
        base_lr: learning rate of all else.
        backbone_lr_factor: the backbone's rate as a part of ``base_lr``.

    Raises:
        ValueError: if nothing requires a gradient.
    """
    backbone, rest = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (backbone if "backbone" in name.split(".") else rest).append(parameter)
    groups = [
        {"params": rest, "lr": base_lr},
        {"params": backbone, "lr": base_lr * backbone_lr_factor},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise ValueError("no parameter of the model requires a gradient: there is nothing to train")
    return groups
