"""Multiply-adds of a detector, by part, from a trace of one forward pass.

Counted is what fvcore counts, one multiply-add as one: convolutions and matrix products, norms,
`grid_sample` (4 per sampled value), and here also what it leaves out of attention. fvcore takes
reshaping, copying, indexing, comparing, ReLU and clamping for free; whatever else has no rule is
named in `Flops.uncounted`.

A trace holds torch's own operators. Of a compiled kernel (deformable sampling by CUDA, or by numba
through numpy) it would hold one opaque step, or break. So the count is of the way in torch's
operators, which does the multiply-adds that the kernels do: our deformable attention takes
`grid_sample` whenever it is traced, and detrex's takes it on the CPU. An opaque step that is traced
all the same is named among the uncounted, as `prim::PythonOp.<its name>`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from detectron2.export import TracingAdapter
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import elementwise_flop_counter, get_shape
from torch import nn

from projects.clockdistill.modeling.detectors.layers.plain import plain_operators

# Where the parts of a detector are. Heads are called from several places, the decoder included;
# each call counts as the heads'.
PARTS: Mapping[str, tuple[str, ...]] = {
    "backbone": ("backbone",),
    "neck": ("neck", "input_proj"),
    "encoder": ("transformer.encoder",),
    "decoder": ("transformer.decoder",),
    "heads": ("class_embed", "bbox_embed"),
}
REST = "rest"


@dataclass(frozen=True)
class Flops:
    """Multiply-adds of one forward pass.

    Attributes:
        by_part: per name in `PARTS`, 0 where the detector has no such part, and `REST`.
        uncounted: operators without a rule, and how often each ran.
    """

    by_part: dict[str, int]
    uncounted: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.by_part.values())


def count_flops(detector: nn.Module, batched_inputs: list[dict[str, Any]]) -> Flops:
    """Traces one forward pass in eval mode and counts.

    Args:
        detector: on the CPU, whatever it runs on later: there nothing is a CUDA kernel.
        batched_inputs: detectron2's dicts.
    """
    # The adapter flattens detectron2's inputs and outputs to the tuples that a trace needs.
    adapter = TracingAdapter(detector.eval(), batched_inputs, allow_non_tensor=True)
    analysis = FlopCountAnalysis(adapter, adapter.flattened_inputs)
    analysis.set_op_handle(
        **{
            "aten::scaled_dot_product_attention": _attention,
            "aten::baddbmm": _added_product,
            # A sum closes a row of multiply-adds: deformable attention weighs samples and sums.
            "aten::sum": elementwise_flop_counter(input_scale=1),
        }
    )
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none")
    with torch.no_grad(), plain_operators():
        counts = analysis.by_module()
    return Flops(
        by_part=_by_part(analysis, counts),
        uncounted=dict(analysis.unsupported_ops().most_common()),
    )


def _by_part(analysis: FlopCountAnalysis, counts: Counter[str]) -> dict[str, int]:
    """Splits the total; a part within another is taken out of it.

    fvcore counts a module that has several names under the first, heads under the decoder's.
    """
    owners = {}
    for part, names in PARTS.items():
        for name in names:
            try:
                owners[analysis.canonical_module_name(f"model.{name}")] = part
            except KeyError:  # the detector has no such part
                continue
    flops = dict.fromkeys((*PARTS, REST), 0)
    flops[REST] = int(counts[""])
    for name, part in owners.items():
        around = [other for other in owners if name.startswith(f"{other}.")]
        flops[part] += int(counts[name])
        flops[owners[max(around, key=len)] if around else REST] -= int(counts[name])
    return flops


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Both matrix products: query times key, weights times value."""
    query, key, value = (get_shape(tensor) for tensor in inputs[:3])
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _added_product(inputs: list[Any], outputs: list[Any]) -> int:
    """`nn.MultiheadAttention` adds its mask to query times key in one operator."""
    first, second = (get_shape(tensor) for tensor in inputs[1:3])
    return prod(first) * second[-1]
