"""Exponential moving average of the student."""

import itertools
from collections.abc import Iterator

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from projects.clockdistill.engine.config_file import ConfigError


class ModelEma(AveragedModel):
    """Average of a detector's parameters and buffers over the steps of a run.

    `module` is the averaged detector. The decay of step n = 0, 1, ... is
    min(decay, (1 + n) / (10 + n)), so that the random start does not linger in short runs. Buffers
    that are not floats (counters) are copied.

    Args:
        model: the detector in training, which is where the average starts.
        decay: largest weight of the old average, in [0, 1).

    Raises:
        ConfigError: if `decay` lies outside [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"train.model_ema.decay={decay} must lie in [0, 1)")
        super().__init__(model, use_buffers=True)
        self._decay = decay
        self.restart(model)

    def restart(self, model: nn.Module) -> None:
        """Starts again from the present weights of `model`."""
        self.module.load_state_dict(model.state_dict())
        # The start counts as the first of the averaged models; at 0, torch would overwrite it.
        self.n_averaged.fill_(1)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Adds the present weights; torch's own method copies a counter, which waits for GPUs."""
        step = self.n_averaged.item() - 1  # always on the CPU
        decay = min(self._decay, (1 + step) / (10 + step))
        averages, values = [], []
        for average, value in zip(_tensors(self.module), _tensors(model), strict=True):
            if average.is_floating_point():
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        get_ema_multi_avg_fn(decay)(averages, values, None)
        self.n_averaged += 1


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(model.parameters(), model.buffers())


class EmaUpdate(HookBase):
    """Adds the weights after every step to the average.

    Args:
        ema: the average.
        model: the detector in training.
    """

    def __init__(self, ema: ModelEma, model: nn.Module) -> None:
        self._ema = ema
        self._model = model

    def after_step(self) -> None:
        self._ema.update_parameters(self._model)
