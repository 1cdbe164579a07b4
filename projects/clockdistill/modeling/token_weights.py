"""Ground-truth boxes -> one weight per memory token.

Letters: B images, N objects, S tokens over all levels, H x W cells of one level.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence


class TokenWeights(nn.Module):
    """alpha * M * S + beta * (1 - M) * S, with the location mask M and the scale mask S.

    Source: CLoCKDistill (arXiv:2502.10683), eq. (2)-(5); `box_masks` says how M and S are read.
    A box that no smaller one covers weighs alpha at every level, whatever its size, and the
    background of a level weighs beta. Padding weighs nothing. beta = 0 switches the background
    term off.

    For the rows of Table 5 the masks can be left out:

    - "location": alpha * M + beta * (1 - M), M without S. A token's weight is no longer divided,
      so a level's total grows with the area of its boxes; alpha must be smaller by about a box's
      number of cells to give a loss of the same size.
    - "none": alpha / P for each of the P tokens of a level that are not padding: M and S of a
      single box over the whole image, so that alpha keeps its meaning, the weight of a box. beta
      has no effect. alpha = 1 / D makes the memory loss eq. (1), the mean over a level's tokens
      and D channels.

    Args:
        alpha: foreground weight (paper: 5e-5).
        beta: background weight (paper: 1e-7).
        masks: which of the paper's masks are used.
    """

    def __init__(
        self,
        alpha: float = 5e-5,
        beta: float = 1e-7,
        masks: Literal["none", "location", "location_scale"] = "location_scale",
    ):
        super().__init__()
        if alpha < 0 or beta < 0:
            raise ValueError(f"alpha={alpha}, beta={beta}: weights must not be negative")
        if masks not in ("none", "location", "location_scale"):
            raise ValueError(f"masks={masks!r} must be 'none', 'location' or 'location_scale'")
        self.alpha = alpha
        self.beta = beta
        self.masks = masks

    @torch.no_grad()
    def forward(self, targets: Sequence[dict[str, Tensor]], masks: Sequence[Tensor]) -> Tensor:
        """Weighs the tokens of all levels.

        Args:
            targets: per image "boxes" (N, 4) cxcywh in [0, 1] of the unpadded image.
            masks: per level (B, H, W) bool, True = padding.

        Returns:
            (B, S) >= 0; 0 on padding.
        """
        return torch.cat([self._level(targets, mask).flatten(1) for mask in masks], dim=1)

    def _level(self, targets: Sequence[dict[str, Tensor]], padding: Tensor) -> Tensor:
        """Returns the weights (B, H, W) of one level."""
        if self.masks == "none":
            valid = ~padding
            return self.alpha * (valid / valid.sum((1, 2), keepdim=True).clamp(min=1))
        foreground, background = box_masks(targets, padding)
        if self.masks == "location":
            foreground, background = foreground > 0, background > 0
        return self.alpha * foreground + self.beta * background


class BoxMasks(NamedTuple):
    """The scale mask on both sides of the location mask; each 0 where the other is not.

    Attributes:
        foreground: (B, H, W) float32, 1 / (H_k W_k) of the smallest box over the cell.
        background: (B, H, W) float32, 1 / N_bg; 0 on padding, as `foreground` is.
    """

    foreground: Tensor
    background: Tensor


@torch.no_grad()
def box_masks(targets: Sequence[dict[str, Tensor]], padding: Tensor) -> BoxMasks:
    """Computes location and scale masks of one level.

    Source: CLoCKDistill (arXiv:2502.10683), eq. (3) and (4); FGD (arXiv:2111.11837) has the same
    two. Read as follows where they are silent: boxes are measured in cells of the level, a cell
    belongs to every box that overlaps it, and H_k W_k is the number of cells that box k overlaps,
    so that a box thinner than a cell keeps the cell that it lies in. Where boxes overlap, the
    smallest (in cells) counts. N_bg counts the background cells that are not padding.

    Args:
        targets: per image "boxes" (N, 4) cxcywh in [0, 1] of the unpadded image.
        padding: (B, H, W) bool, True = padding, right and below.
    """
    boxes = [target["boxes"] for target in targets]
    cxcywh = pad_sequence(boxes, batch_first=True).float()  # (B, N, 4)
    real = [image.new_ones(len(image), dtype=torch.bool) for image in boxes]
    real = pad_sequence(real, batch_first=True)  # (B, N)
    height, width = padding.shape[1:]
    valid_columns = (~padding[:, 0]).sum(1, keepdim=True).float()  # (B, 1)
    valid_rows = (~padding[:, :, 0]).sum(1, keepdim=True).float()
    columns = _overlap(cxcywh[..., 0::2], width, valid_columns) & real[..., None]
    rows = _overlap(cxcywh[..., 1::2], height, valid_rows) & real[..., None]
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
    """Returns which cells of one axis each span overlaps.

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
