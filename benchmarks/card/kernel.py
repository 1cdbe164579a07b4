"""Deformable sampling: correct in every precision, fast, and small. Needs torch and numpy alone.

Backends: ours on this device, detrex's compiled operator where it can be imported, and torch's
`grid_sample`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.card.measure import device_seconds, peak_gigabytes, seconds
from benchmarks.card.section import Run
from projects.clockdistill.modeling.detectors.layers.deformable_sampling import (
    Shapes,
    backend,
    deformable_sample,
    sample_by_grid,
)

Sample = Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]

HEADS, CHANNELS, POINTS = 8, 32, 4
STRIDES = (8, 16, 32, 64)
# of the norm, against float64: some roundings of each dtype
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-3}


def level_shapes(height: int, width: int) -> Shapes:
    """Returns (H, W) of each level of an image."""
    return [(math.ceil(height / stride), math.ceil(width / stride)) for stride in STRIDES]


def inputs(shapes: Shapes, batch: int, queries: int | None, device: torch.device) -> list[Tensor]:
    """Returns value, locations and weights, in float32.

    Args:
        queries: anywhere, a tenth of their samples outside the levels, as in a decoder; None: one
            per token, whose samples lie a few cells around it, as in an encoder.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = sum(height * width for height, width in shapes)
    value = torch.randn(batch, tokens, HEADS, CHANNELS, generator=generator)
    samples = (batch, queries or tokens, HEADS, len(shapes), POINTS)
    if queries:
        locations = 1.1 * torch.rand(*samples, 2, generator=generator) - 0.05
    else:
        own = [torch.cartesian_prod(torch.arange(h) / h, torch.arange(w) / w) for h, w in shapes]
        centres = torch.cat(own).flip(-1)[:, None, None, None]  # as (x, y)
        cells = torch.tensor(shapes).flip(-1)[:, None]
        locations = centres + 2 * torch.randn(*samples, 2, generator=generator) / cells
    weights = torch.rand(samples, generator=generator)
    weights = weights.flatten(-2).softmax(-1).view(samples)
    return [x.to(device) for x in (value, locations, weights)]


def gradients(sample: Sample, shapes: Shapes, tensors: list[Tensor]) -> list[Tensor]:
    """Returns the output and the gradients of value, locations and weights."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    output = sample(leaves[0], shapes, *leaves[1:])
    upstream = torch.arange(output.shape[-1], device=output.device).cos().expand_as(output)
    output.backward(upstream.to(output.dtype))
    return [output.detach(), *(leaf.grad for leaf in leaves)]


def correctness(run: Run) -> None:
    """Compares output and gradients with `grid_sample` in float64 on the CPU."""
    run.notes.append(f"backend: {backend(run.device.type)}")
    shapes = level_shapes(64, 96) if run.quick else level_shapes(201, 666)
    for queries in (50 if run.quick else 900, None):
        tensors = inputs(shapes, 2, queries, torch.device("cpu"))
        for dtype, tolerance in TOLERANCES.items():
            given = [tensors[0].to(dtype), *tensors[1:]]
            expected = gradients(sample_by_grid, shapes, [x.double() for x in given])
            found = gradients(deformable_sample, shapes, [x.to(run.device) for x in given])
            errors = [
                ((ours.cpu().double() - theirs).norm() / theirs.norm()).item()
                for ours, theirs in zip(found, expected, strict=True)
            ]
            names = ("output", "value", "locations", "weights")
            row = run.add(
                queries=tensors[1].shape[1],
                dtype=str(dtype).removeprefix("torch."),
                **dict(zip(names, errors, strict=True)),
                limit=tolerance,
            )
            run.check(row, max(errors) <= tolerance)


def speed(run: Run) -> None:
    """Times forward, and forward and backward, at the sizes of encoder and decoder.

    "forward" and "both" are times of the device alone, "call" is that of a forward call from
    Python, which the host bounds at small sizes.
    """
    sizes = [(402, 1333, 1, None), (402, 1333, 8, None), (800, 1333, 1, None)]
    sizes += [(402, 1333, batch, 900) for batch in (1, 8)]
    backends = {"ours": deformable_sample, "grid_sample": sample_by_grid}
    if run.on_cuda:
        bandwidth = copy_bandwidth(run)
        run.notes.append(f"copying moves {bandwidth:.0f} GB/s, reads and writes together")
        if (detrex := detrex_sample()) is not None:
            backends["detrex"] = detrex
        else:
            run.notes.append("detrex's operator cannot be imported, so it was not measured")
    for height, width, batch, queries in [(64, 96, 1, None)] if run.quick else sizes:
        shapes = level_shapes(height, width)
        for dtype in (torch.float32, torch.bfloat16):
            given = inputs(shapes, batch, queries, run.device)
            given[0] = given[0].to(dtype)
            measured = {}
            for name, sample in backends.items():
                what = f"{name}, {given[1].shape[1]} queries, batch {batch}"
                if run.has_time_for(what, 2):
                    measured[name] = measure(run, name, sample, shapes, given)
            compare(run, measured, queries)


def measure(run: Run, name: str, sample: Sample, shapes: Shapes, given: list[Tensor]) -> dict:
    """Adds the row of one backend; those that know no half precision convert the values."""

    def forward() -> Tensor:
        with torch.no_grad():
            return in_float32(name, sample)(given[0], shapes, *given[1:])

    def both() -> list[Tensor]:
        return gradients(in_float32(name, sample), shapes, given)

    before = torch.cuda.memory_allocated(run.device) / 1e9 if run.on_cuda else 0
    peak = peak_gigabytes(both, run)
    row = run.add(
        queries=given[1].shape[1],
        batch=given[1].shape[0],
        dtype=str(given[0].dtype).removeprefix("torch."),
        by=name,
        forward_ms=1e3 * device_seconds(forward, run),
        both_ms=1e3 * device_seconds(both, run),
        call_ms=1e3 * seconds(forward, run),
        extra_gb=None if peak is None else peak - before,
    )
    # each number once: what no kernel can avoid
    least = sum(x.numel() * x.element_size() for x in (*given, forward())) / 1e9
    row["gb_per_s"] = 1e3 * least / row["forward_ms"]
    return row


def in_float32(name: str, sample: Sample) -> Sample:
    """Returns a sampling that takes values of any dtype."""
    if name == "ours":
        return sample
    return lambda value, *others: sample(value.float(), *others).to(value.dtype)


def compare(run: Run, measured: dict[str, dict], queries: int | None) -> None:
    """Holds the encoder's figures against the targets."""
    ours = measured.get("ours")
    if queries is not None or ours is None:
        return
    what = f"{ours['queries']} queries, batch {ours['batch']}, {ours['dtype']}"
    for name, factor in (("grid_sample", 5), ("detrex", 1)):
        if name in measured:
            speedup = measured[name]["both_ms"] / ours["both_ms"]
            run.target(f"{name} / ours, time, {what}:", speedup, ">=", factor)
    if "grid_sample" in measured and run.on_cuda:
        share = ours["extra_gb"] / measured["grid_sample"]["extra_gb"]
        run.target(f"ours / grid_sample, memory, {what}:", share, "<=", 1 / 3)


def copy_bandwidth(run: Run) -> float:
    """Returns GB/s that the device reads and writes when it copies a large tensor."""
    source = torch.empty(2**28 if not run.quick else 2**20, device=run.device)
    target = torch.empty_like(source)
    bytes_moved = 2 * source.numel() * source.element_size()
    return bytes_moved / seconds(lambda: target.copy_(source), run) / 1e9


def detrex_sample() -> Sample | None:
    """Returns detrex's compiled operator with its gradients; None where it cannot be imported."""
    try:
        from projects.clockdistill.modeling.detectors.layers import deformable_detrex
    except ImportError:
        return None

    class DetrexSample(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value, shapes, locations, weights):
            ctx.shapes = shapes
            ctx.save_for_backward(value, locations, weights)
            return deformable_detrex.forward(value, shapes, locations, weights)

        @staticmethod
        def backward(ctx, grad):
            value, locations, weights = ctx.saved_tensors
            grads = deformable_detrex.backward(grad, value, ctx.shapes, locations, weights)
            return grads[0], None, *grads[1:]

    return DetrexSample.apply
