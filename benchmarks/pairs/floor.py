"""A detector's inference compared with its matrix products and convolutions alone.

The floor is every call that one pass makes of torch's matrix products, convolutions and fused
attention (the operators of torch's FLOP counter), in the same order, on tensors of the same sizes,
strides and types, bias and mask included. It contains nothing else: no normalization, activation,
softmax outside fused attention, addition, sampling, sorting, copy or Python.

Tensors of equal layout are replaced by the first of them, so the floor finds its operands in the
caches more often than the pass does: it is too low rather than too high.
"""

from collections import Counter
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry

from benchmarks.models import build, detector_config, drawn_batch, inference
from benchmarks.pair import Disagreement, Pair, Scale, Work

Call = tuple[OpOverload, tuple[Any, ...], dict[str, Any]]  # operator, arguments


def name_of(operator: OpOverload) -> str:
    """Returns a name without namespace and overload: "addmm"."""
    return operator.overloadpacket.__name__


class ProductRecorder(TorchDispatchMode):
    """A context that records every matrix product, convolution and fused attention in `calls`."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._tensors: dict[tuple, Tensor] = {}

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # the registry has no fused attention for CPUs
        if func.overloadpacket in flop_registry or "_scaled_dot_product" in name_of(func):
            seen: Counter[tuple] = Counter()  # layouts of this call

            def first_of_layout(leaf: Any) -> Any:
                if not isinstance(leaf, Tensor):
                    return leaf
                layout = (leaf.shape, leaf.stride(), leaf.dtype)
                seen[layout] += 1  # two operands of one call stay two tensors
                return self._tensors.setdefault((layout, seen[layout]), leaf)

            self.calls.append((func, *tree_map(first_of_layout, (args, kwargs))))
        return func(*args, **kwargs)


def record(detector: nn.Module, batched_inputs: list[dict[str, Any]]) -> list[Call]:
    """Returns the calls of one pass in eval mode."""
    # Not in inference mode, where composite operators hide the operators that they consist of.
    with torch.no_grad(), ProductRecorder() as recorder:
        detector.eval()(batched_inputs)
    return recorder.calls


@torch.inference_mode()
def replay(calls: list[Call]) -> None:
    """Makes the calls, in order."""
    for operator, args, kwargs in calls:
        operator(*args, **kwargs)


dino_r50 = partial(detector_config, "dino", 50)


def floor(scale: Scale) -> Work:
    """Returns the replay of the detector's products."""
    return partial(replay, record(build(dino_r50(scale)), drawn_batch(scale, 1)))


def counted(scale: Scale) -> dict[str, int]:
    """Returns the number of calls by operator."""
    calls = record(build(dino_r50(scale)), drawn_batch(scale, 1))
    counts = Counter(name_of(operator) for operator, _, _ in calls)
    if not counts["convolution"]:
        raise Disagreement(f"no convolution was recorded, only {dict(counts)}")
    return {f"calls of {name}": count for name, count in counts.most_common()}


PAIR = Pair(
    against="self",
    name="dino_r50_floor",
    what="DINO R50 inference, 402 x 1333, batch 1",
    reference="its matrix products, convolutions and fused attention alone",
    bound="<=",
    factor=1.35,
    ours=partial(inference, dino_r50),
    theirs=[floor],
    check=counted,
)
