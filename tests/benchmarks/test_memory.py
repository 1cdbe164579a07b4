"""Peaks of a process of its own against allocations of known size."""

from collections.abc import Callable

import pytest
import torch

from benchmarks.memory import peak_bytes
from benchmarks.scale import QUICK, Scale

KEPT, PASSING = 60_000_000, 150_000_000  # bytes, far above what else a process allocates


def build(scale: Scale) -> Callable[[], None]:
    """Holds `KEPT`, needs `PASSING` in each run; the warm-up at the tiny scale needs nothing."""
    if scale == QUICK:
        return lambda: None
    kept = torch.ones(KEPT // 4)

    def run() -> None:
        assert len(kept) and torch.ones(PASSING // 4).sum() > 0

    return run


@pytest.mark.parametrize(("with_building", "expected"), [(False, PASSING), (True, KEPT + PASSING)])
def test_peak(with_building, expected):
    scale = Scale(**{**vars(QUICK), "height": QUICK.height + 1})
    peak = peak_bytes(build, scale, with_building=with_building)()
    assert peak == pytest.approx(expected, abs=10_000_000)
