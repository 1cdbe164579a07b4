"""The weighted bilinear sampling by detrex's compiled CUDA operator.

Importing this module needs a detrex that was built with CUDA. Letters as in `deformable_sampling`.
Unmeasured: no GPU was at hand. The tests compare it with the other ways where there is one, and
hold how it is called where there is none.
"""

import torch
from detrex import _C
from torch import Tensor
from torch.autograd.function import once_differentiable


class OperatorSample(torch.autograd.Function):
    """`deformable_sample` for contiguous float32 or float64 tensors on CUDA."""

    @staticmethod
    def forward(
        ctx, value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
    ) -> Tensor:
        """Arguments and result as in `deformable_sample`."""
        spatial_shapes = torch.tensor(shapes, dtype=torch.int64, device=value.device)
        sizes = spatial_shapes.prod(-1)
        level_start_index = sizes.cumsum(0) - sizes
        # The whole batch in one step, which the operator wants to divide the batch.
        ctx.images_per_step = len(value)
        inputs = value, spatial_shapes, level_start_index, locations, weights
        ctx.save_for_backward(*inputs)
        return _C.ms_deform_attn_forward(*inputs, ctx.images_per_step)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad_value, grad_locations, grad_weights = _C.ms_deform_attn_backward(
            *ctx.saved_tensors, grad_output.contiguous(), ctx.images_per_step
        )
        return grad_value, None, grad_locations, grad_weights
