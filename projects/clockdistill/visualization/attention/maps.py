"""Weights and energies of memory tokens -> maps in pixels of the original image."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from projects.clockdistill.visualization.attention.reading import valid_cells


def attention_map(
    tokens: Tensor, masks: Sequence[Tensor], size: tuple[int, int], level: int | None = None
) -> np.ndarray:
    """Spreads the weights of the memory's tokens over the image.

    Each token's weight covers its cell, which is large on coarse levels; between the centres of
    cells it changes linearly.

    Args:
        tokens: (S,), weight of every token.
        masks: per level (H, W) bool, True = padding.
        size: (height, width) of the original image.
        level: from 0; None sums all levels.

    Returns:
        (height, width) float32, in multiples of weights that sum to 1 and are spread evenly.
    """
    maps = _level_maps(tokens, masks)
    chosen = maps if level is None else [maps[level]]
    # a cell covers 1 / (rows * columns) of the image
    return torch.stack([_resized(cells * cells.numel(), size) for cells in chosen]).sum(0).numpy()


def energy_map(
    tokens: Tensor, masks: Sequence[Tensor], size: tuple[int, int], level: int | None = None
) -> np.ndarray:
    """Shows how strongly tokens are active: the mean absolute value over their channels.

    Source: CLoCKDistill (arXiv:2502.10683), figure 1, "active regions".

    Args:
        tokens: (S, D) features or memory.
        masks: per level (H, W) bool, True = padding.
        size: (height, width) of the original image.
        level: from 0; None takes the mean of all levels.

    Returns:
        (height, width) float32.
    """
    maps = _level_maps(tokens.abs().mean(-1), masks)
    chosen = maps if level is None else [maps[level]]
    return torch.stack([_resized(cells, size) for cells in chosen]).mean(0).numpy()


def flat_tokens(features: Sequence[Tensor]) -> Tensor:
    """Joins the levels (D, H_l, W_l) into tokens (S, D), in the memory's order."""
    return torch.cat([level.flatten(1).T for level in features])


def tokens_at(x: float, y: float, masks: Sequence[Tensor]) -> list[int]:
    """Returns on every level the index of the token whose cell holds a point.

    Args:
        x: in [0, 1) of the unpadded image.
        y: in [0, 1) of the unpadded image.
        masks: per level (H, W) bool, True = padding.
    """
    found, start = [], 0
    for mask in masks:
        rows, columns = valid_cells(mask)
        found.append(start + int(y * rows) * mask.shape[1] + int(x * columns))
        start += mask.numel()
    return found


def _level_maps(tokens: Tensor, masks: Sequence[Tensor]) -> list[Tensor]:
    """Splits (S,) into the cells (rows, columns) of each level that are not padding."""
    maps = []
    for part, mask in zip(tokens.split([mask.numel() for mask in masks]), masks, strict=True):
        rows, columns = valid_cells(mask)
        maps.append(part.view(mask.shape)[:rows, :columns])
    return maps


def _resized(cells: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(cells[None, None].float(), size, mode="bilinear", align_corners=False)[
        0, 0
    ]
