"""The weighted bilinear sampling inside deformable attention: two ways to the same numbers.

B images, S tokens over all levels, Q queries, M heads, L levels, P points, C channels a head.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def deformable_sample(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Sums the values at the sampling locations, weighted; cells outside a level count as 0.

    Source: Deformable DETR (arXiv:2010.04159), eq. (3), without its two projections.

    Rule: `sample_by_bags` on the CPU when no gradient is wanted (2-3 times faster there),
    `sample_by_grid` otherwise (its backward is the faster one in eager mode). Both run in
    float32 at least, also under autocast: half precision would move the locations by whole
    cells on wide maps.

    Args:
        value: (B, S, M, C).
        shapes: (H, W) of each level, with S = sum of H * W.
        locations: (B, Q, M, L, P, 2) as (x, y) in units of the padded level; outside [0, 1] is
            outside the level.
        weights: (B, Q, M, L, P).

    Returns:
        (B, Q, M * C) in the dtype of `value`.
    """
    wants_gradient = torch.is_grad_enabled() and any(
        x.requires_grad for x in (value, locations, weights)
    )
    sample = sample_by_grid if wants_gradient or value.device.type != "cpu" else sample_by_bags
    dtype = torch.promote_types(value.dtype, torch.float32)
    with torch.autocast(value.device.type, enabled=False):
        sampled = sample(value.to(dtype), shapes, locations.to(dtype), weights.to(dtype))
    return sampled.to(value.dtype)


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
    """One `embedding_bag`: a bag per (image, query, head) holds L * P * 4 corner cells.

    Each corner weighs attention weight times bilinear weight; corners outside their level
    weigh 0. Arguments and result as in `deformable_sample`; forward only, by choice.
    """
    batch, tokens, heads, _ = value.shape
    queries = locations.shape[1]
    sizes = torch.tensor(shapes, device=value.device)  # (L, 2)
    starts = (sizes.prod(-1).cumsum(0) - sizes.prod(-1))[:, None]  # (L, 1)
    column, column_weight = _corners(locations[..., 0], sizes[:, 1:])  # (2, B, Q, M, L, P) each
    row, row_weight = _corners(locations[..., 1], sizes[:, :1])
    row_weight = row_weight * weights

    # Token s of image b and head m is row (b * S + s) * M + m of the flattened values.
    image = torch.arange(batch, device=value.device).view(-1, 1, 1, 1, 1) * tokens
    head = torch.arange(heads, device=value.device).view(-1, 1, 1)
    base = (image + starts) * heads + head  # (B, 1, M, L, 1)
    row_index = row * (sizes[:, 1:] * heads) + base
    bags = (row_index[:, None] + column * heads).movedim((0, 1), (-2, -1))
    bag_weights = (row_weight[:, None] * column_weight).movedim((0, 1), (-2, -1))

    num_bags = batch * queries * heads
    summed = F.embedding_bag(
        bags.reshape(num_bags, -1),
        value.reshape(batch * tokens * heads, -1),
        mode="sum",
        per_sample_weights=bag_weights.reshape(num_bags, -1),
    )
    return summed.view(batch, queries, -1)


def _corners(position: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The two cells around a position on one axis.

    Args:
        position: (B, Q, M, L, P) in units of the level's length.
        size: (L, 1) cells of the level.

    Returns:
        index: (2, B, Q, M, L, P) int64 inside the level, lower cell first.
        weight: (2, B, Q, M, L, P) bilinear weight, 0 for a cell that was outside.
    """
    cell = position * size - 0.5  # cell centres lie at whole numbers
    cell = torch.minimum(cell.clamp(min=-1), size.to(cell.dtype))  # far outside: still outside
    lower = cell.floor()
    upper_weight = cell - lower
    index = lower.long()
    index = torch.stack((index, index + 1))
    weight = torch.stack((1 - upper_weight, upper_weight))
    inside = (index >= 0) & (index < size)
    # The clamp also keeps a NaN position from indexing outside; its NaN stays in the weight.
    return torch.minimum(index.clamp(min=0), size - 1), weight * inside
