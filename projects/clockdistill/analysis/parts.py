"""Splits a count, such as of time or of multiply-adds, among the parts of a model."""

from collections import Counter
from collections.abc import Callable

from torch import nn


class PartCounter:
    """Splits a growing count among parts of a program, each without the parts within it.

    Args:
        count: returns the count of now.
        outside: the part that runs where no other does.

    Attributes:
        counts: by part, summed over all calls up to the last `update`.
    """

    def __init__(self, count: Callable[[], float], outside: str) -> None:
        self.counts: Counter[str] = Counter()
        self._count, self._last = count, count()
        self._running = [outside]

    def update(self) -> None:
        """Adds what was counted since the last call to the part that runs."""
        now = self._count()
        self.counts[self._running[-1]] += now - self._last
        self._last = now

    def enter(self, part: str) -> None:
        """Starts a part."""
        self.update()
        self._running.append(part)

    def leave(self) -> None:
        """Ends the part that started last."""
        self.update()
        self._running.pop()

    def follow(self, part: str, module: nn.Module) -> None:
        """Lets every forward pass of a module count as a part."""
        module.register_forward_pre_hook(lambda *_: self.enter(part))
        module.register_forward_hook(lambda *_: self.leave())
