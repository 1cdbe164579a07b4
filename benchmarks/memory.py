"""Peak memory of a piece of work, measured in a process of its own.

Resident memory as the kernel counts it, not `analysis.memory.LiveBytes`: the latter follows what
operators return, whereas the sides that are compared here differ also in what they hold within
operators (scratch of convolutions, products and `grid_sample`'s backward, numba's arrays, what the
allocator keeps). It needs Linux, which alone lets a process reset its high-water mark.
"""

import gc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.pair import Measure
from benchmarks.scale import QUICK, Scale

Build = Callable[[Scale], Callable[[], Any]]
_PROCESS = Path("/proc/self")


def peak_bytes(build: Build, scale: Scale, *, with_building: bool) -> Measure:
    """A measure of the extra bytes at the peak of two consecutive runs.

    Two, since the second one of a training has gradients and the optimiser's state beside it.

    Args:
        build: importable by name, returns what to run; first called at the tiny scale, so that
            libraries and compiled kernels are there before anything counts.
        scale: how large.
        with_building: count also what building allocates, such as weights.
    """
    return partial(_in_a_process, build, scale, with_building)


def _in_a_process(build: Build, scale: Scale, with_building: bool) -> float:
    # "spawn": a forked process would start with this one's memory.
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        threads = torch.get_num_threads()
        return pool.submit(_peak, build, scale, with_building, threads).result()


def _peak(build: Build, scale: Scale, with_building: bool, threads: int) -> float:
    torch.set_num_threads(threads)
    build(QUICK)()
    gc.collect()
    if with_building:
        start = _reset_peak()
        run = build(scale)
    else:
        run = build(scale)
        start = _reset_peak()
    for _ in range(2):
        run()
    return float(_status("VmHWM") - start)


def _reset_peak() -> int:
    """Lowers the high-water mark to the resident bytes of now, which are returned."""
    (_PROCESS / "clear_refs").write_text("5")
    return _status("VmRSS")


def _status(key: str) -> int:
    for line in (_PROCESS / "status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])  # "VmRSS:   13548 kB"
    raise ValueError(f"/proc/self/status has no {key}: memory is measured on Linux only")
