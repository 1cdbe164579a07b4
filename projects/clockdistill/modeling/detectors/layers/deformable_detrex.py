"""The weighted bilinear sampling by detrex's compiled CUDA operator.

Importing this module needs a detrex that was built with CUDA. Letters as in `deformable_sampling`.
Unmeasured: no GPU was available. The tests compare it with the other kernels where there is one,
and check how it is called where there is none.
"""

import torch
from detrex import _C
from torch import Tensor

from projects.clockdistill.modeling.detectors.transfers import to_device

TAKES_HALF = False


def forward(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Samples float32 or float64 tensors; arguments and result as in `deformable_sample`."""
    # The whole batch in one step, which the operator wants to divide the batch.
    return _C.ms_deform_attn_forward(*_inputs(value, shapes, locations, weights), value.shape[0])


def backward(
    grad: Tensor,
    value: Tensor,
    shapes: list[tuple[int, int]],
    locations: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of value, locations and weights for that of the output."""
    inputs = _inputs(value, shapes, locations, weights)
    return tuple(_C.ms_deform_attn_backward(*inputs, grad.contiguous(), value.shape[0]))


def _inputs(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> tuple[Tensor, ...]:
    """Returns the arguments of detrex's operator, contiguous: it takes no strides into account."""
    spatial_shapes = to_device(torch.tensor(shapes, dtype=torch.int64), value.device)
    sizes = spatial_shapes.prod(-1)
    level_start_index = sizes.cumsum(0) - sizes
    values = value.contiguous(), spatial_shapes, level_start_index
    return *values, locations.contiguous(), weights.contiguous()
