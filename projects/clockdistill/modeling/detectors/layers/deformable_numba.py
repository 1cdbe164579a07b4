"""The weighted bilinear sampling compiled for the CPU by numba: forward and backward.

Importing this module needs numba and a folder for its cache. Letters as in `deformable_sampling`.

The compiled loops run over (image, head), divided among as many threads as torch uses; no two
threads write to the same value, so results do not depend on their number. The threads are Python's
(the loops release its lock): numba's own would set torch's number of threads as well, since both
use one OpenMP.

Each (image, head) first copies its own values into one block and reads those: in `value` they are
M * C apart and share few of the cache's sets. A row of zeros behind them stands for all cells
outside a level, so that no corner of a bilinear cell needs a test of its own.
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

TAKES_HALF = False

compiled = njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})


def forward(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Samples float32 or float64 tensors; arguments and result as in `deformable_sample`."""
    batch, queries, heads = locations.shape[:3]
    output = value.new_empty(batch, queries, heads, value.shape[-1])
    arrays = _arrays(value, locations, weights, output)
    _share_out(_forward, batch * heads, np.array(shapes, dtype=np.int64), *arrays)
    return output.flatten(2)


def backward(
    grad_output: Tensor,
    value: Tensor,
    shapes: list[tuple[int, int]],
    locations: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of value, locations and weights for that of the output."""
    batch, _, heads, _ = value.shape
    grad_output = grad_output.unflatten(-1, (heads, -1))
    grads = [torch.empty(x.shape, dtype=x.dtype) for x in (value, locations, weights)]
    arrays = _arrays(value, locations, weights, grad_output, *grads)
    _share_out(_backward, batch * heads, np.array(shapes, dtype=np.int64), *arrays)
    return tuple(grads)


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
    """Returns contiguous arrays, for which the loops are compiled; outputs must be contiguous."""
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


@compiled
def _forward(first, last, levels, value, locations, weights, output):
    tokens, channels, number = value.shape[1], value.shape[3], value.dtype.type
    queries, heads, points = output.shape[1], output.shape[2], locations.shape[4]
    own = np.empty((tokens + 1, channels), value.dtype)
    samples = levels.shape[0] * points
    cells = np.empty((samples + 1, 4), np.int64)
    shares = np.empty((samples + 1, 4), value.dtype)
    total = np.empty(channels, value.dtype)
    for task in range(first, last):
        b, m = task // heads, task % heads
        _copy_own(value, b, m, own)
        for q in range(queries):
            found, start = 0, 0
            for level in range(levels.shape[0]):
                height, width = levels[level, 0], levels[level, 1]
                for p in range(points):
                    x = locations[b, q, m, level, p, 0] * number(width) - number(0.5)
                    y = locations[b, q, m, level, p, 1] * number(height) - number(0.5)
                    if x > -1 and y > -1 and x < width and y < height:
                        around, right, below = _cell(x, y, start, height, width, tokens)
                        lower = weights[b, q, m, level, p] * below
                        upper = weights[b, q, m, level, p] - lower
                        cells[found, 0], cells[found, 1] = around[0], around[1]
                        cells[found, 2], cells[found, 3] = around[2], around[3]
                        shares[found, 0] = upper - upper * right
                        shares[found, 1] = upper * right
                        shares[found, 2] = lower - lower * right
                        shares[found, 3] = lower * right
                        found += 1
                start += height * width
            cells[found] = tokens  # so that they can be summed two by two
            shares[found] = 0
            total[:] = 0
            for i in range(0, found, 2):
                i0, i1, i2, i3 = cells[i, 0], cells[i, 1], cells[i, 2], cells[i, 3]
                v0, v1, v2, v3 = shares[i, 0], shares[i, 1], shares[i, 2], shares[i, 3]
                j = i + 1
                j0, j1, j2, j3 = cells[j, 0], cells[j, 1], cells[j, 2], cells[j, 3]
                w0, w1, w2, w3 = shares[j, 0], shares[j, 1], shares[j, 2], shares[j, 3]
                for c in range(channels):
                    total[c] += (
                        v0 * own[i0, c] + v1 * own[i1, c] + v2 * own[i2, c] + v3 * own[i3, c]
                    ) + (w0 * own[j0, c] + w1 * own[j1, c] + w2 * own[j2, c] + w3 * own[j3, c])
            for c in range(channels):
                output[b, q, m, c] = total[c]


@compiled
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
    tokens, channels, number = value.shape[1], value.shape[3], value.dtype.type
    queries, heads, points = grad_output.shape[1], grad_output.shape[2], locations.shape[4]
    own = np.empty((tokens + 1, channels), value.dtype)
    grad_own = np.empty((tokens + 1, channels), value.dtype)
    grad = np.empty(channels, value.dtype)
    for task in range(first, last):
        b, m = task // heads, task % heads
        _copy_own(value, b, m, own)
        grad_own[:] = 0
        for q in range(queries):
            for c in range(channels):
                grad[c] = grad_output[b, q, m, c]
            start = 0
            for level in range(levels.shape[0]):
                height, width = levels[level, 0], levels[level, 1]
                for p in range(points):
                    x = locations[b, q, m, level, p, 0] * number(width) - number(0.5)
                    y = locations[b, q, m, level, p, 1] * number(height) - number(0.5)
                    weight = weights[b, q, m, level, p]
                    # the sampled value, and its change with x and y, each dotted with grad
                    sampled = by_x = by_y = number(0)
                    if x > -1 and y > -1 and x < width and y < height:
                        around, right, below = _cell(x, y, start, height, width, tokens)
                        i0, i1, i2, i3 = around
                        dot0 = dot1 = dot2 = dot3 = number(0)
                        for c in range(channels):
                            dot0 += grad[c] * own[i0, c]
                            dot1 += grad[c] * own[i1, c]
                            dot2 += grad[c] * own[i2, c]
                            dot3 += grad[c] * own[i3, c]
                        lower = weight * below
                        upper = weight - lower
                        # one loop each: the compiler cannot know that no two rows are one
                        for c in range(channels):
                            grad_own[i0, c] += (upper - upper * right) * grad[c]
                        for c in range(channels):
                            grad_own[i1, c] += upper * right * grad[c]
                        for c in range(channels):
                            grad_own[i2, c] += (lower - lower * right) * grad[c]
                        for c in range(channels):
                            grad_own[i3, c] += lower * right * grad[c]
                        top, bottom = dot0 + right * (dot1 - dot0), dot2 + right * (dot3 - dot2)
                        sampled = top + below * (bottom - top)
                        by_x = dot1 - dot0 + below * (dot3 - dot2 - dot1 + dot0)
                        by_y = bottom - top
                    grad_weights[b, q, m, level, p] = sampled
                    grad_locations[b, q, m, level, p, 0] = weight * by_x * number(width)
                    grad_locations[b, q, m, level, p, 1] = weight * by_y * number(height)
                start += height * width
        for s in range(tokens):
            for c in range(channels):
                grad_value[b, s, m, c] = grad_own[s, c]


@compiled
def _copy_own(value, b, m, own):
    """Copies the values of image b and head m, and zeros behind them."""
    tokens, channels = value.shape[1], value.shape[3]
    for s in range(tokens):
        for c in range(channels):
            own[s, c] = value[b, s, m, c]
    own[tokens] = 0


@compiled
def _cell(x, y, start, height, width, outside):
    """Finds the tokens at the corners of the bilinear cell around (x, y), and where in it that is.

    Returns:
        ((upper left, upper right, lower left, lower right), right, below): tokens, `outside` for
        those beyond the level's border; distances from the upper left, in [0, 1).
    """
    left, top = np.floor(x), np.floor(y)
    column, row = int(left), int(top)
    first = start + row * width + column
    corners = first, first + 1, first + width, first + width + 1
    if row < 0 or column < 0 or row + 1 >= height or column + 1 >= width:
        corners = (
            corners[0] if row >= 0 and column >= 0 else outside,
            corners[1] if row >= 0 and column + 1 < width else outside,
            corners[2] if row + 1 < height and column >= 0 else outside,
            corners[3] if row + 1 < height and column + 1 < width else outside,
        )
    return corners, x - left, y - top
