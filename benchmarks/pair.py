"""A pair: two sides that do the same work, and how far apart they should be."""

import gc
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.benchmark import Timer

from projects.clockdistill.analysis.spread import Spread


@dataclass(frozen=True)
class Scale:
    """Sizes of the work; by default those of the targets.

    Attributes:
        height: of an image, in pixels. KITTI's 1242 x 375 becomes 1333 x 402.
        width: of an image, in pixels.
        batch: images of a training step.
        objects: annotated objects per image; KITTI has 5 to 6.
        queries: of a detector; None leaves the papers' numbers.
        small_models: fewer layers and hidden units than the papers' detectors.
        evaluated_images: images of the COCO evaluation.
    """

    height: int = 402
    width: int = 1333
    batch: int = 2
    objects: int = 6
    queries: int | None = None
    small_models: bool = False
    evaluated_images: int = 1500


FULL = Scale()
QUICK = Scale(height=64, width=96, objects=2, queries=12, small_models=True, evaluated_images=6)

Work = Callable[[], Any]
Build = Callable[[Scale], Work]  # makes the work of a given size


class Disagreement(ValueError):
    """The two sides do not compute the same, so they cannot be compared."""


@dataclass(frozen=True)
class Pair:
    """One benchmark.

    Attributes:
        against: whose code the other side is: a key of `opponents.OPPONENTS`.
        name: for the command line and the JSON file.
        what: our side, in words.
        reference: the other side, in words.
        bound: ">=": theirs should take at least `factor` times as much as ours.
            "<=": ours should take at most `factor` times as much as theirs.
        factor: the target.
        ours: our side. For "bytes" it must be importable by name.
        theirs: parts of the other side, whose times or bytes are summed.
        check: runs both sides once, compares the results and returns what a reader should know.
            Raises `Disagreement` if they differ.
        unit: of what is measured.
    """

    against: str
    name: str
    what: str
    reference: str
    bound: Literal[">=", "<="]
    factor: float
    ours: Build
    theirs: Sequence[Build]
    check: Callable[[Scale], dict[str, Any]]
    unit: Literal["s", "bytes"] = "s"

    def measure(self, scale: Scale, rounds: int) -> dict[str, Any]:
        """Compares what both sides compute, and only then measures them in turn, A B A B.

        Returns:
            The pair's entry in the JSON file.

        Raises:
            Disagreement: if the two sides do not compute the same.
        """
        facts = self.check(scale)
        measure = seconds if self.unit == "s" else peak_bytes
        measure_ours = measure(self.ours, scale)
        measure_theirs = [measure(part, scale) for part in self.theirs]
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(measure_ours())
            theirs.append(sum(part() for part in measure_theirs))
        # of each round by itself, so that a slow spell of the machine cancels out
        ratios = [
            their / our if self.bound == ">=" else our / their
            for our, their in zip(ours, theirs, strict=True)
        ]
        ratio = Spread.of(ratios).median
        return {
            "name": self.name,
            "what": self.what,
            "reference": self.reference,
            "unit": self.unit,
            "ours": _spread(ours),
            "theirs": _spread(theirs),
            "ratio": _spread(ratios),
            "target": f"{self.bound} {self.factor:.3g}x",
            "met": ratio >= self.factor if self.bound == ">=" else ratio <= self.factor,
            "facts": facts,
        }


def _spread(rounds: list[float]) -> dict[str, Any]:
    return {**asdict(Spread.of(rounds)), "rounds": rounds}


def seconds(build: Build, scale: Scale) -> Callable[[], float]:
    """Returns a measure of the time of one call, by torch's timer.

    The timer makes one call that does not count, and then repeats the call for half a second, once
    at least.
    """
    timer = Timer("run()", globals={"run": build(scale)}, num_threads=torch.get_num_threads())
    return lambda: timer.blocked_autorange(min_run_time=0.5).median


def peak_bytes(build: Build, scale: Scale) -> Callable[[], float]:
    """Returns a measure of the extra memory at the peak of two consecutive runs, in a new process.

    Extra means: without weights and inputs. It is resident memory as the kernel counts it, which
    includes what operators hold within themselves, as `analysis.memory` does not: buffers of
    convolutions, of `grid_sample`'s backward pass, of numba. Only Linux lets a process reset its
    peak. Two runs, because gradients and the optimizer's state exist from the second step on.
    """

    def measure() -> float:
        # a forked process would start with this one's memory
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
            return pool.submit(_peak, build, scale, torch.get_num_threads()).result()

    return measure


def _peak(build: Build, scale: Scale, threads: int) -> float:
    torch.set_num_threads(threads)
    build(QUICK)()  # loads libraries and compiled kernels
    run = build(scale)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # lowers the recorded peak to the current size
    start = _resident("VmRSS")
    run()
    run()
    return float(_resident("VmHWM") - start)


def _resident(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])  # "VmRSS:   13548 kB"
    raise KeyError(key)
