"""The weighted bilinear sampling compiled for the CPU by numba: forward and backward.

Importing this module needs numba. Letters as in `deformable_sampling`.
"""

import numpy as np
import torch
from numba import get_num_threads, njit, prange, set_num_threads
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable


class CompiledSample(torch.autograd.Function):
    """`deformable_sample` for contiguous float32 or float64 tensors on the CPU.

    The loops run over (image, head): no two threads write to the same value, so results do not
    depend on the number of threads.
    """

    @staticmethod
    def forward(
        ctx, value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
    ) -> Tensor:
        """Arguments and result as in `deformable_sample`."""
        levels = np.array(shapes, dtype=np.int64)
        ctx.save_for_backward(value, locations, weights)
        ctx.levels = levels
        batch, queries, heads = locations.shape[:3]
        output = value.new_empty(batch, queries, heads, value.shape[-1])
        with _torch_threads():
            _forward(*_arrays(value), levels, *_arrays(locations, weights, output))
        return output.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        value, locations, weights = ctx.saved_tensors
        grad_output = grad_output.contiguous().unflatten(-1, (value.shape[2], -1))
        grads = torch.zeros_like(value), torch.empty_like(locations), torch.empty_like(weights)
        with _torch_threads():
            _backward(
                *_arrays(value),
                ctx.levels,
                *_arrays(locations, weights, grad_output, *grads),
            )
        return grads[0], None, grads[1], grads[2]


class _torch_threads:  # noqa: N801  (used like a function)
    """numba works with as many threads as torch does, for the time of the block."""

    def __enter__(self) -> None:
        self.before = get_num_threads()
        set_num_threads(max(1, min(torch.get_num_threads(), self.most)))

    def __exit__(self, *_) -> None:
        set_num_threads(self.before)

    most = get_num_threads()  # numba cannot go beyond what it was started with


def _arrays(*tensors: Tensor) -> list[NDArray]:
    return [tensor.detach().numpy() for tensor in tensors]


@njit(parallel=True, cache=True, fastmath={"contract", "reassoc"})
def _forward(value, levels, locations, weights, output):
    batch, queries, heads = output.shape[0], output.shape[1], output.shape[2]
    channels, points = output.shape[3], locations.shape[4]
    for task in prange(batch * heads):
        b, m = task // heads, task % heads
        for q in range(queries):
            total = output[b, q, m]
            total[:] = 0
            start = 0
            for level in range(levels.shape[0]):
                height, width = levels[level, 0], levels[level, 1]
                for p in range(points):
                    x = locations[b, q, m, level, p, 0] * width - 0.5
                    y = locations[b, q, m, level, p, 1] * height - 0.5
                    if x > -1 and y > -1 and x < width and y < height:
                        column, row = int(np.floor(x)), int(np.floor(y))
                        right, lower = x - column, y - row
                        for corner in range(4):
                            i, j = row + corner // 2, column + corner % 2
                            if i >= 0 and j >= 0 and i < height and j < width:
                                vertical = lower if corner // 2 else 1 - lower
                                horizontal = right if corner % 2 else 1 - right
                                share = weights[b, q, m, level, p] * vertical * horizontal
                                cell = value[b, start + i * width + j, m]
                                for c in range(channels):
                                    total[c] += share * cell[c]
                start += height * width


@njit(parallel=True, cache=True, fastmath={"contract", "reassoc"})
def _backward(
    value, levels, locations, weights, grad_output, grad_value, grad_locations, grad_weights
):
    batch, queries, heads = grad_output.shape[0], grad_output.shape[1], grad_output.shape[2]
    channels, points = grad_output.shape[3], locations.shape[4]
    for task in prange(batch * heads):
        b, m = task // heads, task % heads
        for q in range(queries):
            grad = grad_output[b, q, m]
            start = 0
            for level in range(levels.shape[0]):
                height, width = levels[level, 0], levels[level, 1]
                for p in range(points):
                    x = locations[b, q, m, level, p, 0] * width - 0.5
                    y = locations[b, q, m, level, p, 1] * height - 0.5
                    weight = weights[b, q, m, level, p]
                    # gradients of the sampled value, and of it by x and by y, each dotted with grad
                    sampled = by_x = by_y = x * 0
                    if x > -1 and y > -1 and x < width and y < height:
                        column, row = int(np.floor(x)), int(np.floor(y))
                        right, lower = x - column, y - row
                        for corner in range(4):
                            i, j = row + corner // 2, column + corner % 2
                            if i >= 0 and j >= 0 and i < height and j < width:
                                vertical = lower if corner // 2 else 1 - lower
                                horizontal = right if corner % 2 else 1 - right
                                share = weight * vertical * horizontal
                                index = start + i * width + j
                                cell, grad_cell = value[b, index, m], grad_value[b, index, m]
                                dot = x * 0
                                for c in range(channels):
                                    dot += grad[c] * cell[c]
                                    grad_cell[c] += share * grad[c]
                                sampled += vertical * horizontal * dot
                                by_x += (vertical if corner % 2 else -vertical) * dot
                                by_y += (horizontal if corner // 2 else -horizontal) * dot
                    grad_weights[b, q, m, level, p] = sampled
                    grad_locations[b, q, m, level, p, 0] = weight * by_x * width
                    grad_locations[b, q, m, level, p, 1] = weight * by_y * height
                start += height * width
