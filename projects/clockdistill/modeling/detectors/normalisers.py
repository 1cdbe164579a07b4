"""What the losses divide their sums by, where several processes or chunks share a batch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from detectron2.utils import comm
from torch import Tensor, distributed

from projects.clockdistill.modeling.detectors.base import Target

_objects = ContextVar[float | None]("objects", default=None)


def mean_over_ranks(value: Tensor) -> Tensor:
    """Averages a tensor without gradient over the processes.

    A collective operation: every rank calls it, in the same order and with the same shape. DDP
    averages gradients over the ranks, so a sum that is divided by this mean gives the gradient of
    one process with the whole batch.
    """
    if comm.get_world_size() == 1:
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total / comm.get_world_size()


@contextmanager
def objects_per_chunk(mean: float) -> Iterator[None]:
    """Within this context the detection losses of a chunk are divided by this number of objects.

    The mean of the chunks' losses is then the loss of the whole batch, whatever the chunks hold.

    Args:
        mean: objects of the whole batch of this process, divided by the number of its chunks.
    """
    token = _objects.set(mean)
    try:
        yield
    finally:
        _objects.reset(token)


def count_objects(targets: Sequence[Target]) -> float:
    """Returns the number of objects, or what `objects_per_chunk` puts in its place."""
    mean = _objects.get()
    return float(sum(len(target["labels"]) for target in targets)) if mean is None else mean
