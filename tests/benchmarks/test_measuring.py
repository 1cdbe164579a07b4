"""Turns, time per item, and peak memory against allocations of known size."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from benchmarks.measuring import peak_bytes, seconds, take_turns
from benchmarks.scale import QUICK, Scale

KEPT, TEMPORARY = 60_000_000, 150_000_000  # bytes, far above what else a process allocates


def test_measures_take_turns():
    numbers = iter(range(4))
    measures = {"a": lambda: next(numbers), "b": lambda: next(numbers)}
    assert take_turns(measures, rounds=2) == {"a": [0, 2], "b": [1, 3]}


def test_time_is_per_item_and_without_the_setup():
    calls = []

    def setup() -> None:
        time.sleep(0.05)
        calls.append("setup")

    def run() -> None:
        assert calls.pop() == "setup"
        time.sleep(0.6)  # longer than the timer's half a second, so it runs once after each setup

    taken = seconds(run, setup, items=4)()
    assert taken == pytest.approx(0.6 / 4, rel=0.2)


def build(scale: Scale) -> Callable[[], None]:
    """Keeps `KEPT` and needs `TEMPORARY` in each run, but nothing at the tiny scale."""
    if scale == QUICK:
        return lambda: None
    kept = torch.ones(KEPT // 4)

    def run() -> None:
        assert len(kept) and torch.ones(TEMPORARY // 4).sum() > 0

    return run


@pytest.mark.parametrize(
    ("with_building", "expected"), [(False, TEMPORARY), (True, KEPT + TEMPORARY)]
)
def test_peak(with_building, expected):
    scale = replace(QUICK, height=QUICK.height + 1)
    peak = peak_bytes(build, scale, with_building=with_building)()
    assert peak == pytest.approx(expected, abs=10_000_000)
