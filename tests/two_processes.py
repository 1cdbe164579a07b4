"""Two processes that communicate over gloo, for tests of what they share."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed, multiprocessing


def spawn(function: Callable[[int, str], None], folder: Path) -> None:
    """Calls `function(rank, folder)` in both processes and waits for them."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    multiprocessing.spawn(function, (str(folder),), nprocs=2)


@contextmanager
def process_group(rank: int, folder: str, minutes: int = 3) -> Iterator[None]:
    """Joins the group with one thread; a process that waits in vain fails instead of hanging."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=2,
        timeout=timedelta(minutes=minutes),
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()
