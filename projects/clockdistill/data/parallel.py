"""Threads over the parts of a long list, for work that waits for files."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

_CHUNK = 256  # items of one call: few enough to share, and enough to forget the pool's own cost

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_chunks(
    function: Callable[[Sequence[Item]], Result], items: Sequence[Item], progress: str | None = None
) -> Iterator[Result]:
    """Yields a function's results on the consecutive parts of a list, in their order.

    Args:
        function: takes a part; called in threads.
        items: the whole list.
        progress: title of a progress bar, which a terminal alone shows.
    """
    starts = range(0, len(items), _CHUNK)
    with ThreadPoolExecutor(min(32, 4 * (os.cpu_count() or 1))) as pool:
        results = pool.map(function, (items[start : start + _CHUNK] for start in starts))
        yield from tqdm(
            results, progress, len(starts), leave=False, disable=None if progress else True, delay=2
        )
