"""Time and memory of work on a device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.benchmark import Timer

from benchmarks.card.section import Run

WARM_UP = 2  # calls that compile kernels and fill the allocator's cache
SECONDS = 0.2  # of one measurement

# bfloat16 means autocast; the other two are float32 without and with TF32 products.
PRECISIONS = ("bfloat16", "tf32", "float32")

Work = Callable[[], Any]


def seconds(work: Work, run: Run) -> float:
    """Returns the median time of a call; torch's timer waits for the device around each block."""
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    if run.quick:
        return timer.timeit(1).median
    for _ in range(WARM_UP):
        work()
    return timer.blocked_autorange(min_run_time=SECONDS).median


def device_seconds(work: Work, run: Run) -> float:
    """Returns the time that the device itself takes for a call, without the host's share.

    On CUDA of one of ten calls in a graph, whose replay costs the host one launch; on a CPU, where
    both are one, that of the call.
    """
    if not run.on_cuda:
        return seconds(work, run)
    calls = 10
    return seconds(Captured(work, calls).graph.replay, run) / calls


class Captured:
    """A CUDA graph of some calls.

    Attributes:
        graph: to be replayed.
        work: what was captured; holds the tensors that the graph reads.
    """

    def __init__(self, work: Work, calls: int = 1):
        self.work = work
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # kernels compile and libraries load before the capture
            for _ in range(WARM_UP):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            for _ in range(calls):
                work()


def peak_gigabytes(work: Work, run: Run) -> float | None:
    """Returns the peak of torch's memory on the device during a call, weights included.

    None on a CPU, where `benchmarks/run.py` measures memory.
    """
    if not run.on_cuda:
        return None
    torch.cuda.reset_peak_memory_stats(run.device)
    work()
    return torch.cuda.max_memory_allocated(run.device) / 1e9


@contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """Computes in one of `PRECISIONS` within the context.

    A caller enters it in each call: leaving it drops autocast's copies of the weights, as in a
    user's program.
    """
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest" if name == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = name != "float32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=name == "bfloat16"):
            yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
