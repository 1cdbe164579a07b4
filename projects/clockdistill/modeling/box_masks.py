"""Ground-truth boxes on one feature level: which cells they cover and how large they are there.

Letters: B images, N objects, H x W cells of the level.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class BoxMasks(NamedTuple):
    """The scale mask on both sides of the location mask; each 0 where the other is not.

    Attributes:
        foreground: (B, H, W) float32, 1 / (H_k W_k) of the smallest box over the cell.
        background: (B, H, W) float32, 1 / N_bg; 0 on padding, as `foreground` is.
    """

    foreground: Tensor
    background: Tensor


@torch.no_grad()
def box_masks(
    targets: Sequence[dict[str, Tensor]], valid_cells: Tensor, padding: Tensor
) -> BoxMasks:
    """Location and scale masks of one level.

    Source: CLoCKDistill (arXiv:2502.10683), eq. (3) and (4); FGD (arXiv:2111.11837) has the same
    two. Read as follows where they are silent: boxes are measured in cells of the level, a cell
    belongs to every box that overlaps it, and H_k W_k is the number of cells that box k overlaps,
    so that a box thinner than a cell keeps the cell that it lies in. Where boxes overlap, the
    smallest (in cells) counts. N_bg counts the background cells that are not padding.

    Args:
        targets: per image "boxes" (N, 4) cxcywh in [0, 1] of the unpadded image.
        valid_cells: (B, 2) columns and rows that are not padding.
        padding: (B, H, W) bool, True = padding.
    """
    boxes = [target["boxes"] for target in targets]
    counts = torch.tensor([len(image) for image in boxes], device=padding.device)
    cxcywh = pad_sequence(boxes, batch_first=True).to(valid_cells)  # (B, N, 4)
    real = torch.arange(cxcywh.shape[1], device=counts.device) < counts[:, None]  # (B, N)
    height, width = padding.shape[1:]
    columns = _overlap(cxcywh[..., 0::2], width, valid_cells[:, :1]) & real[..., None]
    rows = _overlap(cxcywh[..., 1::2], height, valid_cells[:, 1:]) & real[..., None]
    per_cell = 1 / (rows.sum(-1) * columns.sum(-1)).clamp(min=1)  # (B, N), 1 / (H_k W_k)
    scaled_rows = rows * per_cell[..., None]
    if cxcywh.shape[1] == 0:
        foreground = torch.zeros_like(padding, dtype=torch.float32)
    else:  # the smallest box has the largest 1 / (H_k W_k)
        foreground = (scaled_rows[..., :, None] * columns[..., None, :]).amax(1)
    is_background = (foreground == 0) & ~padding
    background = is_background / is_background.sum((1, 2), keepdim=True).clamp(min=1)
    return BoxMasks(foreground, background)


def _overlap(spans: Tensor, cells: int, valid: Tensor) -> Tensor:
    """Which cells of one axis each span overlaps.

    Args:
        spans: (B, N, 2) centre and length in [0, 1] of the unpadded axis.
        cells: number of cells of the padded axis.
        valid: (B, 1) number of cells that are not padding.

    Returns:
        (B, N, cells) bool; at least one True per span, never on padding.
    """
    centre, half = spans[..., 0], spans[..., 1] / 2
    # Rounding noise must not make an edge that lies on a cell border take one cell more.
    first = ((centre - half) * valid + 1e-4).floor()
    last = ((centre + half) * valid - 1e-4).ceil() - 1
    first = torch.minimum(first.clamp(min=0), valid - 1)
    last = torch.maximum(torch.minimum(last, valid - 1), first)
    index = torch.arange(cells, device=spans.device)
    return (index >= first[..., None]) & (index <= last[..., None])
