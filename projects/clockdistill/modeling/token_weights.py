"""Ground-truth boxes -> one weight per memory token.

Letters: B images, N objects, L levels, S tokens over all levels, H x W cells of one level.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence


class TokenWeights(nn.Module):
    """alpha * M * S + beta * (1 - M) * S, with the location mask M and the scale mask S.

    Source: CLoCKDistill (arXiv:2502.10683), eq. (2)-(5). Read as follows where the paper is
    silent: boxes are measured in cells of each level, a cell belongs to every box that overlaps
    it, and H_k W_k is the number of cells that box k overlaps. So a box that no smaller one
    covers weighs alpha at every level, whatever its size, and a box thinner than a cell keeps the
    cell that it lies in. Where boxes overlap, the smallest (in cells) counts. N_bg counts the
    background cells of a level that are not padding; padding weighs nothing.

    Args:
        alpha: foreground weight (paper: 5e-5).
        beta: background weight (paper: 1e-7).
    """

    def __init__(self, alpha: float = 5e-5, beta: float = 1e-7):
        super().__init__()
        if alpha < 0 or beta < 0:
            raise ValueError(f"alpha={alpha}, beta={beta}: weights must not be negative")
        self.alpha = alpha
        self.beta = beta

    @torch.no_grad()
    def forward(
        self,
        targets: Sequence[dict[str, Tensor]],
        spatial_shapes: Tensor,
        valid_ratios: Tensor,
        padding_mask: Tensor,
    ) -> Tensor:
        """
        Args:
            targets: per image "boxes" (N, 4) cxcywh in [0, 1] of the unpadded image.
            spatial_shapes: (L, 2) int64, (H, W).
            valid_ratios: (B, L, 2) in (0, 1], (w, h).
            padding_mask: (B, S) bool, True = padding.

        Returns:
            (B, S) >= 0; 0 on padding.
        """
        boxes = [target["boxes"] for target in targets]
        counts = torch.tensor([len(image) for image in boxes], device=padding_mask.device)
        cxcywh = pad_sequence(boxes, batch_first=True).to(valid_ratios)  # (B, N, 4)
        real = torch.arange(cxcywh.shape[1], device=counts.device) < counts[:, None]  # (B, N)
        shapes = spatial_shapes.tolist()
        levels = padding_mask.split([height * width for height, width in shapes], dim=1)
        weights = []
        for level, ((height, width), padding) in enumerate(zip(shapes, levels, strict=True)):
            ratio = valid_ratios[:, level].unsqueeze(1)  # (B, 1, 2)
            columns = _overlap(cxcywh[..., 0::2], width, ratio[..., 0]) & real[..., None]
            rows = _overlap(cxcywh[..., 1::2], height, ratio[..., 1]) & real[..., None]
            weights.append(self._level(rows, columns, padding))
        return torch.cat(weights, dim=1)

    def _level(self, rows: Tensor, columns: Tensor, padding: Tensor) -> Tensor:
        """(B, H*W) weights from (B, N, H) rows and (B, N, W) columns that boxes overlap."""
        per_cell = 1 / (rows.sum(-1) * columns.sum(-1)).clamp(min=1)  # (B, N), 1 / (H_k W_k)
        scaled_rows = rows * per_cell[..., None]
        if rows.shape[1] == 0:
            foreground = torch.zeros_like(padding, dtype=torch.float32)
        else:  # the smallest box has the largest 1 / (H_k W_k)
            foreground = (scaled_rows[..., :, None] * columns[..., None, :]).amax(1).flatten(1)
        foreground = foreground.masked_fill(padding, 0)
        is_background = (foreground == 0) & ~padding
        background = is_background / is_background.sum(1, keepdim=True).clamp(min=1)
        return self.alpha * foreground + self.beta * background


def _overlap(spans: Tensor, cells: int, valid_ratio: Tensor) -> Tensor:
    """Which cells of one axis each span overlaps.

    Args:
        spans: (B, N, 2) centre and length in [0, 1] of the unpadded axis.
        cells: number of cells of the padded axis.
        valid_ratio: (B, 1) in (0, 1], the part of the axis that is not padding.

    Returns:
        (B, N, cells) bool; at least one True per span, never on padding.
    """
    valid = (valid_ratio * cells).round()  # (B, 1)
    centre, half = spans[..., 0], spans[..., 1] / 2
    # Rounding noise must not make an edge that lies on a cell border take one cell more.
    first = ((centre - half) * valid + 1e-4).floor()
    last = ((centre + half) * valid - 1e-4).ceil() - 1
    first = torch.minimum(first.clamp(min=0), valid - 1)
    last = torch.maximum(torch.minimum(last, valid - 1), first)
    index = torch.arange(cells, device=spans.device)
    return (index >= first[..., None]) & (index <= last[..., None])
