"""The weighted bilinear sampling inside deformable attention: four ways to the same numbers.

B images, S tokens over all levels, Q queries, M heads, L levels, P points, C channels a head.
"""

import functools
import logging
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from projects.clockdistill.modeling.detectors.layers.plain import use_plain_operators

Sample = Callable[[Tensor, list[tuple[int, int]], Tensor, Tensor], Tensor]


def deformable_sample(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Sums the values at the sampling locations, weighted; cells outside a level count as 0.

    Source: Deformable DETR (arXiv:2010.04159), eq. (3), without its two projections.

    Rule on the CPU: `sample_by_kernel` where numba is installed; without it `sample_by_bags` when
    no gradient is wanted, else `sample_by_grid`. On CUDA: `sample_by_operator` where detrex is
    installed with its compiled operator. Elsewhere, and within `plain_operators`: `sample_by_grid`,
    which consists of torch's own operators. All run in float32 at least,
    also under autocast: locations in half precision would be off by whole cells on wide maps.

    Args:
        value: (B, S, M, C).
        shapes: (H, W) of each level, with S = sum of H * W.
        locations: (B, Q, M, L, P, 2) as (x, y) in units of the padded level; outside [0, 1] is
            outside the level.
        weights: (B, Q, M, L, P).

    Returns:
        (B, Q, M * C) in the dtype of `value`.
    """
    sample = _choose(value, locations, weights)
    dtype = torch.promote_types(value.dtype, torch.float32)
    with torch.autocast(value.device.type, enabled=False):
        sampled = sample(value.to(dtype), shapes, locations.to(dtype), weights.to(dtype))
    return sampled.to(value.dtype)


def _choose(*tensors: Tensor) -> Sample:
    """The rule of `deformable_sample`."""
    value = tensors[0]
    if use_plain_operators():
        return sample_by_grid
    if value.is_cuda and cuda_operator() is not None:
        return sample_by_operator
    if not value.is_cpu:
        return sample_by_grid
    if compiled_kernel() is not None:
        return sample_by_kernel
    wants_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    return sample_by_grid if wants_gradient else sample_by_bags


@functools.cache
def compiled_kernel() -> Sample | None:
    """The kernel that numba compiles when it first runs, None where that cannot be."""
    logger = logging.getLogger(__name__)
    try:
        from projects.clockdistill.modeling.detectors.layers.deformable_kernel import CompiledSample
    except (ImportError, RuntimeError) as error:  # RuntimeError: nowhere to keep what it compiled
        logger.warning(
            "deformable attention on the CPU: torch operators, several times slower than numba's "
            "kernel, which is not available (%s)",
            error,
        )
        return None
    logger.info("deformable attention on the CPU: kernel compiled by numba")
    return CompiledSample.apply


@functools.cache
def cuda_operator() -> Sample | None:
    """detrex's compiled operator, None where that cannot be."""
    logger = logging.getLogger(__name__)
    try:
        from projects.clockdistill.modeling.detectors.layers.deformable_operator import (
            OperatorSample,
        )
    except ImportError as error:
        logger.info(
            "deformable attention on CUDA: torch's grid_sample; detrex's compiled operator would "
            "be taken, but is not available (%s)",
            error,
        )
        return None
    logger.info("deformable attention on CUDA: detrex's compiled operator")
    return OperatorSample.apply


def sample_by_operator(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """One CUDA kernel, also backward. Arguments and result as in `deformable_sample`."""
    return _of_contiguous(cuda_operator(), value, shapes, locations, weights)


def sample_by_kernel(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Compiled loops, also backward. Arguments and result as in `deformable_sample`."""
    return _of_contiguous(compiled_kernel(), value, shapes, locations, weights)


def _of_contiguous(
    sample: Sample,
    value: Tensor,
    shapes: list[tuple[int, int]],
    locations: Tensor,
    weights: Tensor,
) -> Tensor:
    """For compiled code, which reads memory as if it had no strides."""
    return sample(value.contiguous(), shapes, locations.contiguous(), weights.contiguous())


def sample_by_grid(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """One `grid_sample` per level. Arguments and result as in `deformable_sample`."""
    batch, queries, heads, levels, points, _ = locations.shape
    maps = value.permute(0, 2, 3, 1).flatten(0, 1)  # (B*M, C, S)
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # (B*M, Q, L, P, 2)
    sampled = []
    for level, tokens in enumerate(maps.split([h * w for h, w in shapes], dim=-1)):
        sampled.append(
            F.grid_sample(
                tokens.unflatten(-1, shapes[level]),
                grids[:, :, level],
                mode="bilinear",
                padding_mode="zeros",
                align_corners=False,
            )  # (B*M, C, Q, P)
        )
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    summed = (torch.cat(sampled, dim=-1) * weights).sum(-1)  # (B*M, C, Q)
    return summed.view(batch, -1, queries).transpose(1, 2)


def sample_by_bags(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """One `embedding_bag` per corner of the bilinear cells.

    A bag per (image, query, head) holds the same corner of all L * P cells, each weighing attention
    weight times bilinear weight. A frame of zeros around every level stands for all that lies
    outside, so that no corner needs a test. Arguments and result as in `deformable_sample`.
    """
    batch, _, heads, channels = value.shape
    queries, index = locations.shape[1], torch.int32  # B * S' * M rows: far below 2**31
    framed = _framed(value, shapes)  # (B, S', M, C)
    level_wh = torch.tensor([(w, h) for h, w in shapes], device=value.device)[:, None]  # (L, 1, 2)
    # Cell centres lie at whole numbers; all beyond -1 or the size is outside alike.
    cell = torch.clamp(locations * level_wh - 0.5, level_wh.new_tensor(-1), level_wh)
    lower = cell.floor()
    right_part, bottom_part = (cell - lower).unbind(-1)
    # fmax: NaN stays in the weights, where it is seen, and out of the indices.
    column, row = torch.fmax(lower, lower.new_tensor(-1)).to(index).unbind(-1)

    # Token s of image b and head m is entry (b * S' + s) * M + m of the flattened values.
    line = (level_wh[..., 0] + 3).to(index)  # tokens of a framed row, (L, 1)
    size = line * (level_wh[..., 1] + 3).to(index)
    start = size.cumsum(0, dtype=index) - size
    image = torch.arange(batch, dtype=index, device=value.device).view(-1, 1, 1, 1, 1)
    head = torch.arange(heads, dtype=index, device=value.device).view(-1, 1, 1)
    origin = (image * framed.shape[1] + start + line + 1) * heads + head  # cell (0, 0)
    top_left = origin + row * (line * heads) + column * heads

    table = framed.view(-1, channels)
    bottom = weights * bottom_part
    summed = 0
    for left, line_weight in ((top_left, weights - bottom), (top_left + line * heads, bottom)):
        right = line_weight * right_part
        for corner, weight in ((left, line_weight - right), (left + heads, right)):
            bags, shares = (x.reshape(batch * queries * heads, -1) for x in (corner, weight))
            summed = summed + F.embedding_bag(bags, table, mode="sum", per_sample_weights=shares)
    return summed.view(batch, queries, -1)


def _framed(value: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    """Surrounds each level of (B, S, M, C) with zeros: one cell before, two after."""
    levels = []
    for level, size in zip(value.split([h * w for h, w in shapes], dim=1), shapes, strict=True):
        framed = F.pad(level.unflatten(1, size), (0, 0, 0, 0, 1, 2, 1, 2))
        levels.append(framed.flatten(1, 2))
    return torch.cat(levels, dim=1)
