"""The matrix products and convolutions of a pass alone: the least that the machine could take.

What the floor contains: every call that one pass makes of torch's matrix products (mm, addmm, bmm,
baddbmm, addmv, mv, also in place and with given outputs), convolutions and fused attention, one
after the other, on tensors of the same sizes, strides, memory format and type, bias and mask
included, in the same order. What it does not contain: everything else, that is normalisation,
activations, softmax outside fused attention, additions, sampling, sorting, copies, and Python.

Tensors that look alike are one and the same, so the floor finds its operands in the caches rather
more often than the pass does: it is too low rather than too high.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

# names of operators without overload; in place they end in "_"
PRODUCTS = frozenset(
    {"mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "_addmm_activation", "linear"}
    | {"matmul", "convolution", "conv2d", "mkldnn_convolution", "_convolution"}
)
ATTENTION = ("scaled_dot_product", "_scaled_dot_product")  # with the kernel's name behind


@dataclass(frozen=True)
class Layout:
    """What a tensor looks like; stands for it until the replay."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> "Layout":
        return cls(tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)

    def tensor(self) -> Tensor:
        """Noise of this layout; False or 0 where it holds no floating-point numbers."""
        steps = ((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        length = 0 if 0 in self.size else 1 + sum(steps)
        if self.dtype.is_floating_point:
            memory = torch.randn(length, dtype=self.dtype, device=self.device)
        else:
            memory = torch.zeros(length, dtype=self.dtype, device=self.device)
        return memory.as_strided(self.size, self.stride)


@dataclass(frozen=True)
class Call:
    """One call of an operator, with layouts in place of tensors."""

    operator: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def name(self) -> str:
        """Without namespace and overload: "addmm"."""
        return _name(self.operator)


class ProductRecorder(TorchDispatchMode):
    """Within this context, writes down every matrix product, convolution and fused attention.

    Attributes:
        calls: in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = _name(func)
        if name.removesuffix("_") in PRODUCTS or name.startswith(ATTENTION):
            self.calls.append(Call(func, *tree_map(_layout, (tuple(args), kwargs))))
        return func(*args, **kwargs)


def record(detector: nn.Module, batched_inputs: list[dict[str, Any]]) -> list[Call]:
    """The calls of one pass in eval mode."""
    # Not in inference mode: there composite operators hide what they are made of.
    with torch.no_grad(), ProductRecorder() as recorder:
        detector.eval()(batched_inputs)
    return recorder.calls


def replay(calls: list[Call]) -> Callable[[], None]:
    """Prepares tensors for recorded calls.

    Returns:
        A function that makes all the calls, in order.
    """
    pool: dict[tuple[Layout, int], Tensor] = {}
    prepared = []
    for call in calls:
        taken: Counter[Layout] = Counter()

        def prepare(leaf: Any, taken: Counter[Layout] = taken) -> Any:
            if not isinstance(leaf, Layout):
                return leaf
            taken[leaf] += 1  # operands of one call are never one tensor
            key = (leaf, taken[leaf])
            if key not in pool:
                pool[key] = leaf.tensor()
            return pool[key]

        prepared.append((call.operator, *tree_map(prepare, (call.args, call.kwargs))))

    def run() -> None:
        with torch.inference_mode():
            for operator, args, kwargs in prepared:
                operator(*args, **kwargs)

    return run


def _layout(leaf: Any) -> Any:
    return Layout.of(leaf) if isinstance(leaf, Tensor) else leaf


def _name(operator: Callable[..., Any]) -> str:
    return operator.overloadpacket.__name__
