"""The weighted bilinear sampling compiled for the CPU by numba: forward and backward.

Importing this module needs numba. Letters as in `deformable_sampling`.

The compiled loops run over (image, head), shared out among as many threads as torch uses; no two
threads write to the same value, so results do not depend on their number. The threads are Python's
(the loops let go of its lock): numba's own would set torch's number of threads as well, since both
live in one OpenMP.
"""

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable


class CompiledSample(torch.autograd.Function):
    """`deformable_sample` for contiguous float32 or float64 tensors on the CPU."""

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
        arrays = _arrays(value, locations, weights, output)
        _share_out(_forward, batch * heads, levels, *arrays)
        return output.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        value, locations, weights = ctx.saved_tensors
        batch, heads = len(value), value.shape[2]
        grad_output = grad_output.contiguous().unflatten(-1, (heads, -1))
        grads = torch.zeros_like(value), torch.empty_like(locations), torch.empty_like(weights)
        arrays = _arrays(value, locations, weights, grad_output, *grads)
        _share_out(_backward, batch * heads, ctx.levels, *arrays)
        return grads[0], None, grads[1], grads[2]


def _share_out(loop: Callable[..., None], tasks: int, *arguments: NDArray) -> None:
    """Runs `loop(first, last, *arguments)` for all tasks, in as many threads as torch uses."""
    threads = min(torch.get_num_threads(), tasks)
    if threads == 1:
        loop(0, tasks, *arguments)
        return
    bounds = [tasks * part // threads for part in range(threads + 1)]
    futures = [
        _pool(threads).submit(loop, first, last, *arguments)
        for first, last in itertools.pairwise(bounds)
    ]
    for future in futures:
        future.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="deformable")


def _arrays(*tensors: Tensor) -> list[NDArray]:
    return [tensor.detach().numpy() for tensor in tensors]


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _forward(first, last, levels, value, locations, weights, output):
    queries, heads = output.shape[1], output.shape[2]
    channels, points, number = output.shape[3], locations.shape[4], value.dtype.type
    for task in range(first, last):
        b, m = task // heads, task % heads
        for q in range(queries):
            output[b, q, m] = 0
            start = 0
            for level in range(levels.shape[0]):
                height, width = levels[level, 0], levels[level, 1]
                for p in range(points):
                    x = locations[b, q, m, level, p, 0] * width - 0.5
                    y = locations[b, q, m, level, p, 1] * height - 0.5
                    weight = weights[b, q, m, level, p]
                    if x > -1 and y > -1 and x < width and y < height:
                        column, row = int(np.floor(x)), int(np.floor(y))
                        right, lower = x - column, y - row
                        for corner in range(4):
                            i, j = row + corner // 2, column + corner % 2
                            if i >= 0 and j >= 0 and i < height and j < width:
                                vertical = lower if corner // 2 else 1 - lower
                                horizontal = right if corner % 2 else 1 - right
                                share = number(weight * vertical * horizontal)
                                index = start + i * width + j
                                for c in range(channels):
                                    output[b, q, m, c] += share * value[b, index, m, c]
                start += height * width


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _backward(
    first,
    last,
    levels,
    value,
    locations,
    weights,
    grad_output,
    grad_value,
    grad_locations,
    grad_weights,
):
    queries, heads = grad_output.shape[1], grad_output.shape[2]
    channels, points, number = grad_output.shape[3], locations.shape[4], value.dtype.type
    for task in range(first, last):
        b, m = task // heads, task % heads
        for q in range(queries):
            start = 0
            for level in range(levels.shape[0]):
                height, width = levels[level, 0], levels[level, 1]
                for p in range(points):
                    x = locations[b, q, m, level, p, 0] * width - 0.5
                    y = locations[b, q, m, level, p, 1] * height - 0.5
                    weight = weights[b, q, m, level, p]
                    # gradients of the sampled value, and of it by x and by y, each dotted with grad
                    sampled = by_x = by_y = 0.0
                    if x > -1 and y > -1 and x < width and y < height:
                        column, row = int(np.floor(x)), int(np.floor(y))
                        right, lower = x - column, y - row
                        for corner in range(4):
                            i, j = row + corner // 2, column + corner % 2
                            if i >= 0 and j >= 0 and i < height and j < width:
                                vertical = lower if corner // 2 else 1 - lower
                                horizontal = right if corner % 2 else 1 - right
                                share = number(weight * vertical * horizontal)
                                index = start + i * width + j
                                dot = number(0)
                                for c in range(channels):
                                    dot += grad_output[b, q, m, c] * value[b, index, m, c]
                                for c in range(channels):
                                    grad_value[b, index, m, c] += share * grad_output[b, q, m, c]
                                sampled += vertical * horizontal * dot
                                by_x += (vertical if corner % 2 else -vertical) * dot
                                by_y += (horizontal if corner // 2 else -horizontal) * dot
                    grad_weights[b, q, m, level, p] = sampled
                    grad_locations[b, q, m, level, p, 0] = weight * by_x * width
                    grad_locations[b, q, m, level, p, 1] = weight * by_y * height
                start += height * width
