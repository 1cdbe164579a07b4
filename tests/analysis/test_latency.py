"""Latency by a clock that fake detectors advance."""

import torch
from torch import nn

from projects.clockdistill.analysis import latency
from projects.clockdistill.analysis.latency import measure_latency


class Clock:
    """A clock that only the detectors advance."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Slow(nn.Module):
    """A detector whose passes take the seconds that it is given."""

    def __init__(self, clock: Clock, seconds: list[float]):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.clock, self.seconds = clock, iter(seconds)
        self.ends: list[float] = []

    def forward(self, batched_inputs: list) -> None:
        assert not self.training and torch.is_inference_mode_enabled()
        self.clock.now += next(self.seconds)
        self.ends.append(self.clock.now)


def test_detectors_take_turns_and_warmup_does_not_count(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(latency, "time", clock)
    slow, steady = Slow(clock, [9, 8, 4]), Slow(clock, [1, 1, 1])
    assert measure_latency([slow, steady], [], warmup=1, repeats=2) == [[8, 4], [1, 1]]
    # passes of 9, 1, 8, 1, 4, 1 seconds
    assert (slow.ends, steady.ends) == ([9, 18, 23], [10, 19, 24])
