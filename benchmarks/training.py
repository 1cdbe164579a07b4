"""One training step, by the project's own trainer."""

import itertools
from collections.abc import Callable
from typing import Any

from torch import nn

from projects.clockdistill.configs.common.optim import optimizer
from projects.clockdistill.engine.solver import build_optimizer
from projects.clockdistill.engine.trainer import Trainer


def training_step(model: nn.Module, batched_inputs: list[dict[str, Any]]) -> Callable[[], None]:
    """What to time: forward, losses, backward, clipping, optimiser, on the same batch each time.

    Args:
        model: returns {name: loss}.
        batched_inputs: detectron2's dicts.
    """
    return build_trainer(model, batched_inputs).run_step


def build_trainer(model: nn.Module, batched_inputs: list[dict[str, Any]]) -> Trainer:
    """A trainer that is ready for `run_step`; arguments as of `training_step`."""
    trainer = Trainer(
        model,
        lambda start_iter: itertools.repeat(batched_inputs),
        build_optimizer(optimizer, model),
        max_norm=0.1,
    )
    trainer.train(0, 0)  # what is done once in a training: modes, storage, loader
    return trainer
