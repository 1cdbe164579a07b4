"""The weighted bilinear sampling inside deformable attention, as one torch operator.

B images, S tokens over all levels, Q queries, M heads, L levels, P points, C channels a head.

torch knows the operator's output shape and gradients, so that it can be exported and compiled.
Backends compute it: Triton on CUDA, numba on CPUs, detrex's compiled operator where it is asked
for, and torch's `grid_sample` where there is none of them. The environment variable
CLOCKDISTILL_SAMPLING forces one.
"""

import functools
import importlib
import logging
import os
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

# torch has no public name for it
from torch.utils._python_dispatch import _disable_current_modes

from projects.clockdistill.modeling.detectors.layers.plain import use_plain_operators

logger = logging.getLogger(__name__)

VARIABLE = "CLOCKDISTILL_SAMPLING"
DEFAULTS = {"cuda": "triton", "cpu": "numba"}  # by type of device; others have grid_sample
BACKENDS = ("triton", "detrex", "numba", "grid_sample")

Shapes = list[tuple[int, int]]


class Kernel(Protocol):
    """Computes sampling and its gradients on one type of device; the module of a backend.

    All tensors have one dtype, float32 or float64, but for `TAKES_HALF`.

    Attributes:
        TAKES_HALF: whether values, outputs and their gradients may have 16 bits; locations and
            weights have 32 then.
    """

    TAKES_HALF: bool

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

    Raises:
        RuntimeError: if CLOCKDISTILL_SAMPLING names a backend that is not available here.
    """
    dtype = torch.promote_types(value.dtype, torch.float32)
    locations, weights = locations.to(dtype), weights.to(dtype)
    if use_plain_operators() or backend(value.device.type) == "grid_sample":
        return sample_by_grid(value.to(dtype), shapes, locations, weights).to(value.dtype)
    # contiguous once: kernels read them forward and backward
    inputs = [x.contiguous() for x in (value, locations, weights)]
    sizes = [size for shape in shapes for size in shape]
    return _sample(inputs[0], sizes, *inputs[1:])


def sample_by_grid(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Samples by one `grid_sample` per level and point; as `deformable_sample` in all else.

    One call per level would return all its points at once: a tensor P times as large, whose sum
    over the points takes longer than the sampling, in exported graphs above all.
    """
    batch, queries, heads, _, points, _ = locations.shape
    maps = value.permute(0, 2, 3, 1).flatten(0, 1)  # (B*M, C, S)
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # (B*M, Q, L, P, 2)
    weights = weights.permute(0, 2, 3, 4, 1).flatten(0, 1)  # (B*M, L, P, Q)
    summed = value.new_zeros(())
    for level, tokens in enumerate(maps.split([h * w for h, w in shapes], dim=-1)):
        tokens = tokens.unflatten(-1, shapes[level])
        for point in range(points):
            sampled = F.grid_sample(
                tokens,
                grids[:, None, :, level, point],
                mode="bilinear",
                padding_mode="zeros",
                align_corners=False,
            )  # (B*M, C, 1, Q)
            summed = torch.addcmul(summed, sampled[:, :, 0], weights[:, None, level, point])
    return summed.view(batch, heads * value.shape[-1], queries).transpose(1, 2)


@torch.compiler.assume_constant_result  # torch.compile runs it instead of tracing it
def backend(device_type: str) -> str:
    """Returns which backend samples on devices of a type; logs the choice once.

    Args:
        device_type: "cuda", "cpu" or another of torch's.

    Raises:
        RuntimeError: if CLOCKDISTILL_SAMPLING names one that is not available here.
    """
    return _choose(device_type, os.environ.get(VARIABLE))


@functools.cache
def _choose(device_type: str, forced: str | None) -> str:
    name = forced or DEFAULTS.get(device_type, "grid_sample")
    if name not in BACKENDS:
        raise RuntimeError(f"{VARIABLE}={name} is no backend.\nFix: one of {', '.join(BACKENDS)}")
    if name != "grid_sample":
        try:
            with _disable_current_modes():  # a tracer's tensors hold no numbers
                _try(_kernel(name), device_type)
        except Exception as error:  # no module, no compiler, no card that it supports, ...
            cause = f"{type(error).__name__}: {error}"
            if forced:
                raise RuntimeError(
                    f"{VARIABLE}={name}, but it cannot be used on {device_type} ({cause}).\n"
                    f"Fix: unset {VARIABLE}, or set it to grid_sample"
                ) from error
            logger.warning(
                "deformable attention on %s: torch's grid_sample, several times slower and larger "
                "than %s, which cannot be used (%s)",
                device_type,
                name,
                cause,
            )
            return "grid_sample"
    logger.info("deformable attention on %s: %s", device_type, name)
    return name


@functools.cache
def _kernel(name: str) -> Kernel:
    return importlib.import_module(f"{__package__}.deformable_{name}")


def _try(kernel: Kernel, device: str) -> None:
    """Samples once, forward and backward, so that what cannot work fails here.

    Raises:
        ArithmeticError: if the kernel's result is not that of `grid_sample`.
    """
    value = torch.arange(1.0, 25, device=device).view(1, 6, 1, 4)
    locations = torch.tensor([[0.4, 0.6], [0.9, 0.1]], device=device).view(1, 2, 1, 1, 1, 2)
    weights = torch.ones(1, 2, 1, 1, 1, device=device)
    sampled = kernel.forward(value, [(2, 3)], locations, weights)
    kernel.backward(sampled, value, [(2, 3)], locations, weights)
    expected = sample_by_grid(value, [(2, 3)], locations, weights)
    if not torch.allclose(sampled, expected, rtol=1e-4):
        raise ArithmeticError(f"it gives {sampled.tolist()} instead of {expected.tolist()}")


# An operator's arguments may be lists of numbers, not of pairs: H and W of each level follow each
# other in `sizes`.
@torch.library.custom_op("clockdistill::deformable_sample", mutates_args=())
def _sample(value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    kernel = _kernel(backend(value.device.type))
    numbers = value if kernel.TAKES_HALF else value.to(locations.dtype)
    return kernel.forward(numbers, _pairs(sizes), locations, weights).to(value.dtype)


@torch.library.custom_op("clockdistill::deformable_sample_backward", mutates_args=())
def _sample_backward(
    grad: Tensor, value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    kernel = _kernel(backend(value.device.type))
    numbers = value if kernel.TAKES_HALF else value.to(locations.dtype)
    grad = grad.to(numbers.dtype)
    grads = kernel.backward(grad, numbers, _pairs(sizes), locations, weights)
    return grads[0].to(value.dtype), *grads[1:]


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
