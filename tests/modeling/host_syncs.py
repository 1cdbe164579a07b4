"""Modes that refuse what makes the host wait for a device, without a device.

torch's "meta" device stands for it: its tensors hold no values, so that nothing can read them.
What only a GPU would wait for is named here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Operators that read values, and what they are called by: `item`, `bool`, `tolist`, slices, ...
READERS = {
    "_local_scalar_dense",
    "_unique2",
    "allclose",
    "bincount",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
INDEXERS = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
FROM_HOST_DATA = (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor)


class HostSyncError(Exception):
    """The host would wait for the device."""


class Operators(TorchDispatchMode):
    """Refuses operators that make the host wait; counts the copies in both directions."""

    def __init__(self):
        super().__init__()
        self.to_host = 0
        self.to_device = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if name == "_to_copy":
            target = torch.device(kwargs.get("device") or args[0].device).type
            if args[0].is_meta and target == "cpu":
                self.to_host += 1
                return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
            if not args[0].is_meta and target == "meta":
                if not kwargs.get("non_blocking"):
                    raise HostSyncError("a copy to the device without non_blocking=True")
                self.to_device += 1
        elif any(x.is_meta for x in tensors):
            if any(x.dim() for x in tensors if not x.is_meta):
                raise HostSyncError(f"{name} copies a tensor from the host")
            if name in READERS:
                raise HostSyncError(f"{name} reads values")
            if func == torch.ops.aten.repeat_interleave.Tensor and "output_size" not in kwargs:
                raise HostSyncError("repeat_interleave reads its repeats")
            masks = (torch.bool, torch.uint8)
            if name in INDEXERS and any(x.dtype in masks for x in args[1] if x is not None):
                raise HostSyncError(f"{name} by a mask")
        return func(*args, **kwargs)


class Calls(TorchFunctionMode):
    """Refuses calls that copy host data to the device before any operator sees it."""

    def __torch_function__(self, func, types, args=(), kwargs=None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in FROM_HOST_DATA and result.is_meta:
            raise HostSyncError(f"{func.__name__} copies host data")
        if func in (Tensor.__getitem__, Tensor.__setitem__) and args[0].is_meta:
            indices = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(x, (list, np.ndarray)) for x in indices):
                raise HostSyncError("an index is copied from the host")
            # CUDA fills slices with a number, but copies it for indices and single elements.
            number = func is Tensor.__setitem__ and not isinstance(args[2], Tensor)
            by_tensor = any(isinstance(x, Tensor) for x in indices)
            if number and (by_tensor or args[0][args[1]].dim() == 0):
                raise HostSyncError("a number is copied from the host")
        return result


@contextmanager
def no_host_syncs() -> Iterator[Operators]:
    """Refuses to wait for the device; yields the counts of copies."""
    with Calls(), Operators() as operators:
        yield operators
