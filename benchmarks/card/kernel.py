"""Deformable sampling: correct in every precision, fast, and small. Needs torch and numpy alone."""

from functools import partial

import torch
from torch import Tensor

from benchmarks.card.measure import peak_gigabytes, seconds
from benchmarks.card.section import Run
from projects.clockdistill.modeling.detectors.layers.deformable_sampling import (
    Shapes,
    deformable_sample,
    sample_by_grid,
)

HEADS, CHANNELS, POINTS = 8, 32, 4
STRIDES = (8, 16, 32, 64)
# of the norm, against float64
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}


def level_shapes(height: int, width: int) -> Shapes:
    """Returns (H, W) of each level of an image."""
    return [(-(-height // stride), -(-width // stride)) for stride in STRIDES]


def inputs(shapes: Shapes, batch: int, queries: int, device: torch.device) -> list[Tensor]:
    """Returns value, locations (some outside the levels) and weights, in float32."""
    generator = torch.Generator().manual_seed(0)
    tokens = sum(height * width for height, width in shapes)
    value = torch.randn(batch, tokens, HEADS, CHANNELS, generator=generator)
    samples = (batch, queries, HEADS, len(shapes), POINTS)
    locations = 1.2 * torch.rand(*samples, 2, generator=generator) - 0.1
    weights = torch.rand(samples, generator=generator).flatten(-2).softmax(-1).view(samples)
    return [x.to(device) for x in (value, locations, weights)]


def gradients(sample, shapes: Shapes, tensors: list[Tensor]) -> list[Tensor]:
    """Returns the output and the gradients of value, locations and weights."""
    value, locations, weights = leaves = [x.detach().requires_grad_() for x in tensors]
    output = sample(value, shapes, locations, weights)
    (output.float() * torch.arange(output.shape[-1], device=output.device).cos()).sum().backward()
    return [output.detach(), *(leaf.grad for leaf in leaves)]


def correctness(run: Run) -> None:
    """Compares output and gradients with `grid_sample` in float64 on the CPU."""
    shapes = level_shapes(64, 96) if run.quick else level_shapes(201, 666)
    tensors = inputs(shapes, 2, 50 if run.quick else 900, torch.device("cpu"))
    for dtype, tolerance in TOLERANCES.items():
        value = tensors[0].to(dtype)
        given = [value, *tensors[1:]]
        expected = gradients(sample_by_grid, shapes, [x.double() for x in given])
        found = gradients(deformable_sample, shapes, [x.to(run.device) for x in given])
        row = run.add(dtype=str(dtype).removeprefix("torch."), limit=tolerance)
        for name, ours, theirs in zip(
            ("output", "value", "locations", "weights"), found, expected, strict=True
        ):
            row[name] = ((ours.cpu().double() - theirs).norm() / theirs.norm()).item()
        run.check(row, max(list(row.values())[2:]) <= tolerance)


def speed(run: Run) -> None:
    """Times forward and backward, ours and `grid_sample`, at the sizes of encoder and decoder."""
    sizes = [("quick", 64, 96, 50, 1)] if run.quick else []
    if not run.quick:
        for batch in (1, 8):
            sizes += [("encoder", 402, 1333, None, batch), ("decoder", 402, 1333, 900, batch)]
        sizes.append(("encoder", 800, 1333, None, 1))
    for what, height, width, queries, batch in sizes:
        shapes = level_shapes(height, width)
        queries = queries or sum(h * w for h, w in shapes)
        if not run.has_time_for(f"{what}, {queries} queries, batch {batch}", 2):
            continue
        for dtype in (torch.float32, torch.bfloat16):
            given = inputs(shapes, batch, queries, run.device)
            given[0] = given[0].to(dtype)
            for name, sample in (("ours", deformable_sample), ("grid_sample", sample_by_grid)):
                if sample is sample_by_grid:
                    given = [x.float() for x in given]
                with torch.no_grad():
                    forward = seconds(partial(sample, given[0], shapes, *given[1:]), run)
                both = partial(gradients, sample, shapes, given)
                run.add(
                    size=what,
                    queries=queries,
                    batch=batch,
                    dtype=str(dtype).removeprefix("torch."),
                    by=name,
                    forward_ms=1e3 * forward,
                    both_ms=1e3 * seconds(both, run),
                    peak_gb=peak_gigabytes(both, run),
                )
