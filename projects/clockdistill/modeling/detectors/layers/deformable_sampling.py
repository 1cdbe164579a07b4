"""The weighted bilinear sampling inside deformable attention, as one torch operator.

B images, S tokens over all levels, Q queries, M heads, L levels, P points, C channels a head.

torch knows the operator's output shape and gradients, so that it can be exported. `_kernel` chooses
what computes it on which device; a kernel for another device is added there.
"""

import functools
import logging
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from projects.clockdistill.modeling.detectors.layers.plain import use_plain_operators

logger = logging.getLogger(__name__)

Shapes = list[tuple[int, int]]


class Kernel(Protocol):
    """Computes sampling and its gradients, of float32 or float64 tensors on one kind of device."""

    def forward(self, value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
        """Takes and returns what `deformable_sample` does."""

    def backward(
        self, grad: Tensor, value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the gradients of value, locations and weights for that of the output."""


def deformable_sample(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Sums the values at the sampling locations, weighted; cells outside a level count as 0.

    Source: Deformable DETR (arXiv:2010.04159), eq. (3), without its two projections.

    Computes in float32 at least, also under autocast: locations in half precision would be off by
    whole cells on wide maps.

    Args:
        value: (B, S, M, C).
        shapes: (H, W) of each level, with S = sum of H * W.
        locations: (B, Q, M, L, P, 2) as (x, y) in units of the padded level; outside [0, 1] is
            outside the level.
        weights: (B, Q, M, L, P).

    Returns:
        (B, Q, M * C) in the dtype of `value`.
    """
    dtype = torch.promote_types(value.dtype, torch.float32)
    inputs = [x.to(dtype) for x in (value, locations, weights)]
    if use_plain_operators() or _kernel(value) is None:
        sampled = sample_by_grid(inputs[0], shapes, *inputs[1:])
    else:
        inputs = [x.contiguous() for x in inputs]  # once: kernels read them forward and backward
        sizes = [size for shape in shapes for size in shape]
        sampled = _sample(inputs[0], sizes, *inputs[1:])
    return sampled.to(value.dtype)


def sample_by_grid(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Samples by one `grid_sample` per level; arguments and result as in `deformable_sample`."""
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


def _kernel(value: Tensor) -> Kernel | None:
    """Returns what computes the operator where `value` is; None where `grid_sample` must do."""
    if value.is_cpu:
        return numba_kernel()
    return detrex_kernel() if value.is_cuda else None


@functools.cache
def numba_kernel() -> Kernel | None:
    """Returns the loops that numba compiles when they first run; None where that cannot be."""
    try:
        from projects.clockdistill.modeling.detectors.layers import deformable_kernel
    except (ImportError, RuntimeError) as error:  # RuntimeError: nowhere to keep what it compiled
        logger.warning(
            "deformable attention on the CPU: torch's grid_sample, several times slower than "
            "numba's kernel, which is not available (%s)",
            error,
        )
        return None
    logger.info("deformable attention on the CPU: kernel compiled by numba")
    return deformable_kernel


@functools.cache
def detrex_kernel() -> Kernel | None:
    """Returns detrex's CUDA kernel; None where detrex is not installed with it."""
    try:
        from projects.clockdistill.modeling.detectors.layers import deformable_detrex
    except ImportError as error:
        logger.info(
            "deformable attention on CUDA: torch's grid_sample; detrex's compiled kernel is not "
            "available (%s)",
            error,
        )
        return None
    logger.info("deformable attention on CUDA: detrex's compiled kernel")
    return deformable_detrex


# An operator's arguments may be lists of numbers, not of pairs: H and W of each level follow each
# other in `sizes`.
@torch.library.custom_op("clockdistill::deformable_sample", mutates_args=())
def _sample(value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    return _kernel(value).forward(value, _pairs(sizes), locations, weights)


@torch.library.custom_op("clockdistill::deformable_sample_backward", mutates_args=())
def _sample_backward(
    grad: Tensor, value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return _kernel(value).backward(grad, value, _pairs(sizes), locations, weights)


@_sample.register_fake
def _(value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    return value.new_empty(*locations.shape[:2], value.shape[2] * value.shape[3])


@_sample_backward.register_fake
def _(
    grad: Tensor, value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(x.new_empty(x.shape) for x in (value, locations, weights))


def _setup_context(ctx, inputs, output) -> None:
    value, ctx.sizes, locations, weights = inputs
    ctx.save_for_backward(value, locations, weights)


def _backward(ctx, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
    value, locations, weights = ctx.saved_tensors
    grads = _sample_backward(grad, value, ctx.sizes, locations, weights)
    return grads[0], None, grads[1], grads[2]


_sample.register_autograd(_backward, setup_context=_setup_context)


def _pairs(sizes: Sequence[int]) -> Shapes:
    return list(zip(sizes[::2], sizes[1::2], strict=True))
