"""Multiply-adds of one forward pass of a detector, by part.

Counted is what fvcore counts, one multiply-add as one: convolutions and matrix products, norms,
interpolation, `grid_sample` (4 per sampled value); `addcmul`; and all of attention, including the
weighted sum of deformable attention. Reshaping, copying, indexing, comparing, ReLU and clamping are
free, as in fvcore. Other operators without a formula are named in `Flops.uncounted`.

The pass runs in torch's own operators, since a compiled kernel has no formula: our deformable
attention does so within `plain_operators`, and detrex's does on a CPU.
"""

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from projects.clockdistill.modeling.detectors.layers.plain import plain_operators

# Modules of each part. The decoder calls the heads too; each call counts as the heads'.
PARTS: Mapping[str, tuple[str, ...]] = {
    "backbone": ("backbone",),
    "neck": ("neck", "input_proj"),
    "encoder": ("transformer.encoder",),
    "decoder": ("transformer.decoder",),
    "heads": ("class_embed", "bbox_embed"),
}
REST = "rest"

aten = torch.ops.aten
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Flops:
    """Multiply-adds of one forward pass.

    Attributes:
        by_part: per name in `PARTS`, 0 where the detector has no such part, and `REST`.
        uncounted: operators without a formula, and how often each ran.
    """

    by_part: dict[str, int]
    uncounted: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.by_part.values())


def count_flops(detector: nn.Module, batched_inputs: list[dict[str, Any]]) -> Flops:
    """Counts one forward pass in eval mode.

    Args:
        detector: on the CPU, whatever it runs on later.
        batched_inputs: detectron2's dicts.
    """
    # A copy: FlopCounterMode fails where a module is called with a parameter that needs gradients.
    detector = copy.deepcopy(detector).requires_grad_(False).eval()
    # The counter decomposes an operator unless it finds the very overload.
    overloads = {operator.default: formula for operator, formula in FORMULAS.items()}
    counter = FlopCounterMode(display=False, custom_mapping={**FORMULAS, **overloads})
    names = _OperatorNames(counter.flop_registry)
    parts = _PartCounter(counter.get_total_flops)
    for part, modules in PARTS.items():
        for module in _called_modules(detector, modules):
            parts.follow(part, module)
    # Not in inference mode, where composite operators hide the operators that they consist of.
    with torch.no_grad(), plain_operators(), counter, names:
        detector(batched_inputs)
        parts.update()
    return Flops(
        # torch counts a multiply-add as two operations
        by_part={part: parts.counts[part] // 2 for part in (*PARTS, REST)},
        uncounted=dict(names.uncounted.most_common()),
    )


def _called_modules(detector: nn.Module, names: tuple[str, ...]) -> set[nn.Module]:
    """Returns the modules of these names; of a list, which is never called, its members."""
    found = set()
    for name in names:
        try:
            module = detector.get_submodule(name)
        except AttributeError:  # the detector has no such part
            continue
        found |= set(module) if isinstance(module, nn.ModuleList) else {module}
    return found


class _PartCounter:
    """Splits a growing count among the parts of a model, each without the parts within it.

    Args:
        count: returns the count of now.

    Attributes:
        counts: by part, summed over all calls up to the last `update`.
    """

    def __init__(self, count: Callable[[], int]) -> None:
        self.counts: Counter[str] = Counter()
        self._count, self._last = count, 0
        self._running = [REST]

    def update(self) -> None:
        """Adds what was counted since the last call to the part that runs."""
        now = self._count()
        self.counts[self._running[-1]] += now - self._last
        self._last = now

    def follow(self, part: str, module: nn.Module) -> None:
        """Lets every forward pass of a module count as a part."""

        def enter(*_: Any) -> None:
            self.update()
            self._running.append(part)

        def leave(*_: Any) -> None:
            self.update()
            self._running.pop()

        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)


class _OperatorNames(TorchDispatchMode):
    """A context that counts the calls of operators without a formula that are not free.

    Args:
        formulas: operators that have a formula.
    """

    def __init__(self, formulas: Mapping[Any, Any]):
        super().__init__()
        self.formulas = formulas
        self.uncounted: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        packet = func.overloadpacket
        name = packet.__name__.removesuffix("_")
        if not (packet in self.formulas or func.is_view or name in FREE):
            self.uncounted[func._schema.name] += 1
        return func(*args, **(kwargs or {}))


# What fvcore takes as free, by the names that operators have below autograd; views are free too.
FREE = frozenset(
    """
    _local_scalar_dense _to_copy _unsafe_view arange bitwise_and bitwise_not bitwise_or cat
    clamp clamp_max clamp_min clone constant_pad_nd copy empty empty_like eq fill floor
    floor_divide full full_like gather ge gt index index_put index_select le lift_fresh
    logical_and logical_not logical_or lt masked_fill max ne new_empty new_full new_zeros
    nonzero ones ones_like promote_types relu remainder repeat roll scalar_tensor scatter stack
    topk unsqueeze where zero zeros zeros_like
    """.split()  # noqa: SIM905  a literal would take one line per name
)


def _elementwise(per_input: int, per_output: int) -> Callable[..., int]:
    """Returns a formula: so many multiply-adds for each value of the input and of the output."""

    def formula(shape: Shape, *args: Any, out_shape: Shape, **kwargs: Any) -> int:
        return 2 * (per_input * prod(shape) + per_output * prod(out_shape))

    return formula


def _norm(weight: int, plain: int, affine: int) -> Callable[..., int]:
    """Returns a formula: multiply-adds for each value, by whether argument `weight` is given."""

    def formula(shape: Shape, *args: Any, out_shape: Any, **kwargs: Any) -> int:
        return 2 * prod(shape) * (plain if args[weight - 1] is None else affine)

    return formula


def _attention(
    query: Shape, key: Shape, value: Shape, *args: Any, out_shape: Any, **kwargs: Any
) -> int:
    """Both matrix products: query times key, weights times value."""
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


FORMULAS = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten.native_batch_norm: _norm(1, 1, 2),  # in eval mode a scale, and a shift if affine
    aten.native_group_norm: _norm(1, 4, 5),  # fvcore's estimate
    aten.native_layer_norm: _norm(2, 4, 5),
    aten.grid_sampler_2d: _elementwise(0, 4),
    aten.upsample_bilinear2d: _elementwise(0, 4),
    aten.upsample_nearest2d: _elementwise(0, 1),
    aten._adaptive_avg_pool2d: _elementwise(1, 0),
    aten.addcmul: _elementwise(0, 1),  # deformable attention's weighted sum
    aten.sum: _elementwise(1, 0),
}
