"""Memory that a forward pass needs for what it computes."""

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_activation_bytes(detector: nn.Module, batched_inputs: list[dict[str, Any]]) -> int:
    """Returns the most bytes that tensors made by one forward pass hold at one time.

    Measured without gradients, in eval mode. Neither weights and buffers nor what kernels hold
    within themselves count; therefore the figure is the same in every run.

    Args:
        detector: on the device to measure: which operators run depends on it.
        batched_inputs: detectron2's dicts.
    """
    known = [*detector.parameters(), *detector.buffers()]
    known += [entry["image"] for entry in batched_inputs]
    # Not in inference mode, where composite operators hide the tensors between their steps.
    with torch.no_grad(), LiveBytes(known) as live:
        detector.eval()(batched_inputs)
    return live.peak


class LiveBytes(TorchDispatchMode):
    """A context that follows the memory of all tensors that operators return.

    Args:
        known: tensors whose memory is not counted, nor that of their views.

    Attributes:
        peak: the most bytes alive at one time.
    """

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.peak = 0
        self._live = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._follow(leaf.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        identity = storage._cdata
        if identity in self._seen:  # a view, or the result of an in-place operation
            return
        self._seen.add(identity)
        self._live += storage.nbytes()
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._free, identity, storage.nbytes())

    def _free(self, identity: int, size: int) -> None:
        self._seen.discard(identity)
        self._live -= size
