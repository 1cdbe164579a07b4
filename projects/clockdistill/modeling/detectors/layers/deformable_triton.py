"""The weighted bilinear sampling in Triton: forward and backward, for CUDA devices.

Importing this module needs torch and triton alone. Letters as in `deformable_sampling`.

Each program takes one image, one head and a tile of queries, and holds a (queries, channels) tile
in registers, so that a sample's corner is one coalesced row of its head's channels. All arithmetic
is in the dtype of the locations: float32, or float64 for values in float64. The gradient of the
values is summed by atomic additions, whose order changes from run to run: repeated runs agree up to
rounding, not bit by bit.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

TAKES_HALF = True

# Of a program: numbers of its (queries, channels) tile, and warps. Fastest on an H200, for encoders
# and decoders of DINO, among tiles of 256 to 4,096 numbers and 1 to 4 warps.
FORWARD_TILE = (256, 1)
BACKWARD_TILE = (256, 1)


def forward(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Takes and returns what `deformable_sample` does."""
    batch, queries, heads = locations.shape[:3]
    output = value.new_empty(batch, queries, heads * value.shape[-1])
    if output.numel():
        inputs = [x.contiguous() for x in (value, locations, weights)]
        _launch(forward_kernel, FORWARD_TILE, inputs, shapes, output)
    return output


def backward(
    grad: Tensor,
    value: Tensor,
    shapes: list[tuple[int, int]],
    locations: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of value, locations and weights for that of the output."""
    value_grad = torch.zeros(value.shape, dtype=locations.dtype, device=value.device)
    other_grads = [
        torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (locations, weights)
    ]
    if grad.numel():
        inputs = [x.contiguous() for x in (value, locations, weights)]
        _launch(
            backward_kernel,
            BACKWARD_TILE,
            inputs,
            shapes,
            grad.contiguous(),
            value_grad,
            *other_grads,
        )
    return value_grad.to(value.dtype), *other_grads


def _launch(
    kernel,
    tile: tuple[int, int],
    inputs: list[Tensor],
    shapes: list[tuple[int, int]],
    *outputs: Tensor,
) -> None:
    """Runs a kernel on the device of its tensors, which must be contiguous."""
    value, locations, _ = inputs
    batch, queries, heads, levels, points, _ = locations.shape
    channels = value.shape[-1]
    width = triton.next_power_of_2(channels)
    numbers, warps = tile
    queries_each = max(1, numbers // width)
    # As floats: for integers Triton compiles a kernel for every pattern of ones and multiples of
    # 16, and images of many sizes have many patterns.
    sizes = tuple(float(size) for shape in shapes for size in shape)
    with torch.cuda.device_of(value):
        kernel[(triton.cdiv(queries, queries_each), batch * heads)](
            *inputs,
            *outputs,
            sizes,
            value.shape[1],
            queries,
            HEADS=heads,
            CHANNELS=channels,
            LEVELS=levels,
            POINTS=points,
            TILE=queries_each,
            WIDTH=width,
            num_warps=warps,
        )


@triton.jit(do_not_specialize=["tokens", "queries"])
def forward_kernel(
    value,
    locations,
    weights,
    output,
    sizes,
    tokens,
    queries,
    HEADS: tl.constexpr,
    CHANNELS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    TILE: tl.constexpr,
    WIDTH: tl.constexpr,
):
    image, head, row, exists = _program(queries, HEADS, TILE)
    value += (image * tokens * HEADS + head) * CHANNELS
    locations += image * queries * (HEADS * LEVELS * POINTS * 2)
    weights += image * queries * (HEADS * LEVELS * POINTS)
    output += image * queries * (HEADS * CHANNELS)
    channel = tl.arange(0, WIDTH)
    in_head = channel < CHANNELS
    sample = row * (LEVELS * POINTS)
    dtype = locations.dtype.element_ty
    total = tl.zeros((TILE, WIDTH), dtype)
    level_start = 0.0
    for level in tl.static_range(LEVELS):
        height, width = sizes[2 * level], sizes[2 * level + 1]
        for _point in range(POINTS):
            x, y, weight = _sample(locations, weights, sample, exists, height, width)
            for corner in tl.static_range(4):
                token, share, _, _, inside = _corner(x, y, height, width, level_start, corner)
                numbers = tl.load(
                    value + (token * (HEADS * CHANNELS))[:, None] + channel[None, :],
                    mask=inside[:, None] & in_head[None, :],
                    other=0.0,
                )
                total += (weight * share)[:, None] * numbers.to(dtype)
            sample += 1
        level_start += height * width
    tl.store(
        output + (row * CHANNELS)[:, None] + channel[None, :],
        total.to(output.dtype.element_ty),
        mask=exists[:, None] & in_head[None, :],
    )


@triton.jit(do_not_specialize=["tokens", "queries"])
def backward_kernel(
    value,
    locations,
    weights,
    grad,
    value_grad,
    locations_grad,
    weights_grad,
    sizes,
    tokens,
    queries,
    HEADS: tl.constexpr,
    CHANNELS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    TILE: tl.constexpr,
    WIDTH: tl.constexpr,
):
    image, head, row, exists = _program(queries, HEADS, TILE)
    value += (image * tokens * HEADS + head) * CHANNELS
    value_grad += (image * tokens * HEADS + head) * CHANNELS
    locations += image * queries * (HEADS * LEVELS * POINTS * 2)
    locations_grad += image * queries * (HEADS * LEVELS * POINTS * 2)
    weights += image * queries * (HEADS * LEVELS * POINTS)
    weights_grad += image * queries * (HEADS * LEVELS * POINTS)
    grad += image * queries * (HEADS * CHANNELS)
    channel = tl.arange(0, WIDTH)
    in_head = channel < CHANNELS
    dtype = locations.dtype.element_ty
    upstream = tl.load(
        grad + (row * CHANNELS)[:, None] + channel[None, :],
        mask=exists[:, None] & in_head[None, :],
        other=0.0,
    ).to(dtype)
    sample = row * (LEVELS * POINTS)
    level_start = 0.0
    for level in tl.static_range(LEVELS):
        height, width = sizes[2 * level], sizes[2 * level + 1]
        for _point in range(POINTS):
            x, y, weight = _sample(locations, weights, sample, exists, height, width)
            sampled = tl.zeros((TILE,), dtype)  # its product with the upstream gradient
            by_x = tl.zeros((TILE,), dtype)
            by_y = tl.zeros((TILE,), dtype)
            for corner in tl.static_range(4):
                token, share, share_by_x, share_by_y, inside = _corner(
                    x, y, height, width, level_start, corner
                )
                cells = (token * (HEADS * CHANNELS))[:, None] + channel[None, :]
                mask = inside[:, None] & in_head[None, :]
                numbers = tl.load(value + cells, mask=mask, other=0.0).to(dtype)
                product = tl.sum(numbers * upstream, axis=1)
                sampled += share * product
                by_x += share_by_x * product
                by_y += share_by_y * product
                addend = (weight * share)[:, None] * upstream
                tl.atomic_add(value_grad + cells, addend, mask=mask, sem="relaxed")
            tl.store(weights_grad + sample, sampled, mask=exists)
            tl.store(locations_grad + 2 * sample, weight * width * by_x, mask=exists)
            tl.store(locations_grad + 2 * sample + 1, weight * height * by_y, mask=exists)
            sample += 1
        level_start += height * width


@triton.jit
def _program(queries, HEADS: tl.constexpr, TILE: tl.constexpr):
    """Returns what a program works on.

    Returns:
        image: 64 bits, since all images together may have more than 2**31 numbers.
        head: of the image.
        row: (TILE,) of the image's (queries * heads), one for each query of the tile.
        exists: (TILE,) False for rows behind the last query.
    """
    image = (tl.program_id(1) // HEADS).to(tl.int64)
    head = tl.program_id(1) % HEADS
    query = tl.program_id(0) * TILE + tl.arange(0, TILE)
    return image, head, query * HEADS + head, query < queries


@triton.jit
def _sample(locations, weights, sample, exists, height, width):
    """Returns the position in cells and the weight of one sample of each query.

    A position that is not finite, or far outside, becomes one just outside: nothing infinite
    enters the shares, and the corners of none are inside.
    """
    x = tl.load(locations + 2 * sample, mask=exists, other=0.0) * width - 0.5
    y = tl.load(locations + 2 * sample + 1, mask=exists, other=0.0) * height - 0.5
    weight = tl.load(weights + sample, mask=exists, other=0.0)
    x = tl.minimum(tl.maximum(x, -2.0), width + 1)
    y = tl.minimum(tl.maximum(y, -2.0), height + 1)
    return x, y, weight


@triton.jit
def _corner(x, y, height, width, level_start, CORNER: tl.constexpr):
    """Finds one corner of the bilinear cells around (x, y).

    Returns:
        token: of the image; any number where there is none. Float32 counts exactly up to 2**24.
        share: the corner's, in [0, 1].
        by_x: derivative of the share.
        by_y: likewise.
        inside: whether the level has such a cell.
    """
    column, row = tl.floor(x), tl.floor(y)
    right, below = x - column, y - row
    if CORNER % 2 == 0:
        share_x, by_x = 1 - right, -1.0
    else:
        column, share_x, by_x = column + 1, right, 1.0
    if CORNER // 2 == 0:
        share_y, by_y = 1 - below, -1.0
    else:
        row, share_y, by_y = row + 1, below, 1.0
    token = (level_start + row * width + column).to(tl.int32)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return token, share_x * share_y, by_x * share_y, share_x * by_y, inside
