"""Random numbers that a resumed run repeats."""

import numpy as np
import torch
from detectron2.utils import comm
from torch import Tensor, nn


class StepRandom(nn.Module):
    """Random numbers that depend on a seed, the rank and a step count alone.

    The count is saved with the run, so a resumed run draws what an uninterrupted one would, and
    torch's global generator (which denoising uses) is never touched.
    """

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._steps = 0  # the same number where it can be read without waiting for a device

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Returns standard normal draws of the shape, on the CPU, and counts the step."""
        return torch.randn(shape, generator=self._generator())

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Returns draws from [0, 1) of the shape, on the CPU, and counts the step."""
        return torch.rand(shape, generator=self._generator())

    @property
    def count(self) -> int:
        """Number of draws so far."""
        return self._steps

    def restart(self, count: int) -> None:
        """Continues as after `count` draws."""
        self._steps = count
        self.steps.fill_(count)

    def _generator(self) -> torch.Generator:
        entropy = np.random.SeedSequence((self.seed, comm.get_rank(), self._steps))
        generator = torch.Generator()
        generator.manual_seed(int(entropy.generate_state(1, np.uint64)[0]))
        self._steps += 1
        self.steps += 1
        return generator

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._steps = int(self.steps)
