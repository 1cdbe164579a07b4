"""Splits the time of a training step among the parts of a detector."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from benchmarks.training import build_trainer

BACKWARD = "backward"
OPTIMISER = "optimiser"
STEP = "step"
_PARTS: Mapping[str, tuple[str, ...]] = {
    "backbone, neck": ("backbone", "neck"),
    "encoder": ("transformer.encoder",),
    "decoder": ("transformer.decoder",),
    "matching": ("criterion.matcher",),
    "losses": ("criterion",),
    "other forward": ("",),
}
PARTS = (*_PARTS, BACKWARD, OPTIMISER)


class PartClock:
    """Seconds that parts of a program took, each without those within it.

    Attributes:
        seconds: by name, summed over all visits.
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._open: list[list[float]] = []  # of each part that runs: start, seconds within it

    def enter(self) -> None:
        """A part begins."""
        self._open.append([time.perf_counter(), 0.0])

    def leave(self, name: str) -> None:
        """The part that began last ends."""
        start, within = self._open.pop()
        taken = time.perf_counter() - start
        self.seconds[name] += taken - within
        if self._open:
            self._open[-1][1] += taken

    def follow(self, name: str, module: nn.Module) -> None:
        """Takes the forward passes of a module as a part."""
        module.register_forward_pre_hook(lambda *_: self.enter())
        module.register_forward_hook(lambda *_: self.leave(name))


def step_by_parts(
    detector: nn.Module, batched_inputs: list[dict[str, Any]]
) -> Callable[[], dict[str, float]]:
    """A training step that tells what its parts took.

    Args:
        detector: one of the multi-scale families; it keeps the hooks.
        batched_inputs: detectron2's dicts.

    Returns:
        Makes a step; seconds by name: `PARTS` and, as their sum, `STEP`. Clipping and the check of
        the losses count as backward.
    """
    clock = PartClock()
    for name, paths in _PARTS.items():
        for path in paths:
            clock.follow(name, detector.get_submodule(path))
    trainer = build_trainer(detector, batched_inputs)
    trainer.optimizer.register_step_pre_hook(lambda *_: clock.enter())
    trainer.optimizer.register_step_post_hook(lambda *_: clock.leave(OPTIMISER))

    def run() -> dict[str, float]:
        clock.seconds.clear()
        clock.enter()
        trainer.run_step()
        clock.leave(BACKWARD)  # all that is no part of its own
        return {**clock.seconds, STEP: sum(clock.seconds.values())}

    return run
