"""Exponential moving average of a model's weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class ModelEma:
    """Average of a module's parameters and buffers over the steps of a run.

    The decay rises with the steps as min(decay, (1 + n) / (10 + n)), so that the random
    start does not linger in short runs. Buffers that are no floats (counters) are copied.

    Args:
        module: the module to follow; its tensors must not be replaced afterwards.
        decay: weight of the old average, in [0, 1).

    Raises:
        ValueError: if decay lies outside [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"train.model_ema.decay must lie in [0, 1), not {decay}")
        self.decay = decay
        self.steps = 0
        self._live = dict(module.state_dict())
        self._average: dict[str, Tensor] = {}
        self.restart()

    def restart(self) -> None:
        """Begin anew from the module's present weights."""
        self.steps = 0
        self._average = {key: value.detach().clone() for key, value in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the module's weights after a step."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        floats = [key for key, value in self._live.items() if value.is_floating_point()]
        average = get_ema_multi_avg_fn(decay)
        average([self._average[key] for key in floats], [self._live[key] for key in floats], None)
        for key in self._live.keys() - set(floats):
            self._average[key].copy_(self._live[key])
        self.steps += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Run the block with the averaged weights inside the module."""
        kept = {key: value.detach().clone() for key, value in self._live.items()}
        self._copy(self._average)
        try:
            yield
        finally:
            self._copy(kept)

    @torch.no_grad()
    def _copy(self, weights: dict[str, Tensor]) -> None:
        for key, value in self._live.items():
            value.copy_(weights[key])

    def weights(self) -> dict[str, Tensor]:
        """Return the average under the module's own state-dict keys."""
        return self._average

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs."""
        return {"steps": self.steps, "weights": self._average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.steps = state["steps"]
        for key, value in self._average.items():
            value.copy_(state["weights"][key])
