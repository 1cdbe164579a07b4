"""Exponential moving average of the student."""

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
        super().__init__(model, multi_avg_fn=self._average, use_buffers=True)
        self._decay = decay
        self.restart(model)

    def restart(self, model: nn.Module) -> None:
        """Starts again from the present weights of `model`."""
        self.module.load_state_dict(model.state_dict())
        # The start counts as the first of the averaged models; at 0, torch would overwrite it.
        self.n_averaged.fill_(1)

    @torch.no_grad()
    def _average(self, averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        if not averaged[0].is_floating_point():  # torch passes tensors of one type at a time
            for average, value in zip(averaged, current, strict=True):
                average.copy_(value)
            return
        step = self.n_averaged.item() - 1  # unlike `count`, always on the CPU
        decay = min(self._decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(averaged, current, count)


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
