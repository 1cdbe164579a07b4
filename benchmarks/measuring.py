"""Time of a call, peak memory of a process, and measurements that take turns."""

import gc
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.benchmark import Timer

from benchmarks.scale import QUICK, Scale

T = TypeVar("T")
Measure = Callable[[], float]  # does the work and returns what it took, in seconds or bytes
Build = Callable[[Scale], Callable[[], Any]]  # returns the work of a given size
_PROCESS = Path("/proc/self")


def take_turns(measures: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Takes each measure once per round, A B A B, so that other load slows all of them alike.

    Args:
        measures: by name, in the order of a round.
        rounds: their number.

    Returns:
        By name, what a measure returned in each round.
    """
    taken: dict[str, list[T]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            taken[name].append(measure())
    return taken


def seconds(
    run: Callable[[], Any], setup: Callable[[], Any] = lambda: None, items: int = 1
) -> Measure:
    """Returns a measure of the time of one call, by torch's timer.

    The timer makes one call that does not count, and then repeats the call for half a second, once
    at least.

    Args:
        run: the work; it returns when the work is done.
        setup: called before the clock starts.
        items: results of one call; the measure is the time of one of them.
    """
    timer = Timer(
        "run()",
        "setup()",
        globals={"run": run, "setup": setup},
        num_threads=torch.get_num_threads(),
    )
    return lambda: timer.blocked_autorange(min_run_time=0.5).median / items


def peak_bytes(build: Build, scale: Scale, *, with_building: bool) -> Measure:
    """Returns a measure of the extra memory at the peak of two consecutive runs, in a new process.

    It is resident memory as the kernel counts it, which includes what operators hold within
    themselves, as `analysis.memory` does not: buffers of convolutions, of `grid_sample`'s backward
    pass, of numba. Only Linux lets a process reset its peak. Two runs, because gradients and the
    optimizer's state exist from the second training step on.

    Args:
        build: importable by name. It is first called at the tiny scale, so that libraries and
            compiled kernels are loaded before anything counts.
        scale: sizes of the measured work.
        with_building: counts also what building allocates, such as weights.
    """

    def measure() -> float:
        # a forked process would start with this one's memory
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
            return pool.submit(_peak, build, scale, with_building, torch.get_num_threads()).result()

    return measure


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
    """Lowers the recorded peak to the resident bytes of now and returns them."""
    (_PROCESS / "clear_refs").write_text("5")
    return _status("VmRSS")


def _status(key: str) -> int:
    lines = (_PROCESS / "status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{key}:"))
    return 1024 * int(line.split()[1])  # "VmRSS:   13548 kB"
