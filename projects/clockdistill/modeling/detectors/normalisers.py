"""What the losses divide their sums by, where several processes or chunks share a batch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from detectron2.utils import comm
from torch import Tensor, distributed

from projects.clockdistill.modeling.detectors.base import Target

_batch = ContextVar[tuple[int, int] | None]("batch", default=None)


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
def chunks_of(objects: int, chunks: int) -> Iterator[None]:
    """Within this context the detectors see one of several chunks of a batch.

    All chunks then divide by the same number of objects, so that the mean of their losses is the
    loss of the batch, whichever chunk holds the objects.

    Args:
        objects: in the batch of this process.
        chunks: into how many chunks of equal size the batch is split.
    """
    token = _batch.set((objects, chunks))
    try:
        yield
    finally:
        _batch.reset(token)


def batch_objects(targets: Sequence[Target]) -> tuple[int, int]:
    """Returns the objects of the batch that targets belong to, and its number of chunks."""
    return _batch.get() or (sum(len(target["labels"]) for target in targets), 1)
