"""The one loop that takes all measurements, and the clock."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from benchmarks.pair import Measure

T = TypeVar("T")


def take_turns(
    measures: Mapping[str, Callable[[], T]], warmup: int, rounds: int
) -> dict[str, list[T]]:
    """Takes each measure once a round, A B A B, so that what else runs slows all of them alike.

    Args:
        measures: by name; the order of a round.
        warmup: rounds before the first that counts: kernels compile, caches and memory fill.
        rounds: rounds that count.

    Returns:
        What each measure returned in the rounds that count.
    """
    taken: dict[str, list[T]] = {name: [] for name in measures}
    for number in range(warmup + rounds):
        for name, measure in measures.items():
            value = measure()
            if number >= warmup:
                taken[name].append(value)
    return taken


def seconds(
    run: Callable[[], Any], before: Callable[[], Any] | None = None, calls: int = 1
) -> Measure:
    """A measure of the time of one call.

    Args:
        run: what is timed; it returns when its work is done.
        before: called each time before the clock starts.
        calls: consecutive calls of which the mean is taken.
    """

    def measure() -> float:
        if before is not None:
            before()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - start) / calls

    return measure
