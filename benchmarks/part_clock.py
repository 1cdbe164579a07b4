"""The time of a training step, by parts of the detector."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import nn

from benchmarks.models import build_trainer

STEP = "step"
_MODULES = {
    "backbone, neck": ("backbone", "neck"),
    "encoder": ("transformer.encoder",),
    "decoder": ("transformer.decoder",),
    "matching": ("criterion.matcher",),
    "losses": ("criterion",),
    "other forward": ("",),
}
PARTS = (*_MODULES, "backward", "optimiser")


class PartClock:
    """Seconds of parts of a program, each without the parts within it.

    Attributes:
        seconds: by name, summed over all calls.
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._open: list[list[float]] = []  # of each part that runs: start, seconds of inner parts

    def enter(self) -> None:
        """Starts a part."""
        self._open.append([time.perf_counter(), 0.0])

    def leave(self, name: str) -> None:
        """Ends the part that started last."""
        start, inner = self._open.pop()
        taken = time.perf_counter() - start
        self.seconds[name] += taken - inner
        if self._open:
            self._open[-1][1] += taken

    def follow(self, name: str, module: nn.Module) -> None:
        """Measures the forward passes of a module."""
        module.register_forward_pre_hook(lambda *_: self.enter())
        module.register_forward_hook(lambda *_: self.leave(name))


def step_by_parts(
    detector: nn.Module, batched_inputs: list[dict[str, Any]]
) -> Callable[[], dict[str, float]]:
    """Returns a training step that returns the seconds of `PARTS` and, as their sum, of `STEP`.

    Clipping and the check of the losses count as backward.

    Args:
        detector: one of the multi-scale families; it keeps the hooks.
        batched_inputs: detectron2's dicts.
    """
    clock = PartClock()
    for name, paths in _MODULES.items():
        for path in paths:
            clock.follow(name, detector.get_submodule(path))
    trainer = build_trainer(detector, batched_inputs)
    trainer.optimizer.register_step_pre_hook(lambda *_: clock.enter())
    trainer.optimizer.register_step_post_hook(lambda *_: clock.leave("optimiser"))

    def run() -> dict[str, float]:
        clock.seconds.clear()
        clock.enter()
        trainer.run_step()
        clock.leave("backward")  # whatever belongs to no other part
        return {**clock.seconds, STEP: sum(clock.seconds.values())}

    return run
