"""Ground-truth boxes -> one weight per memory token.

Letters: B images, N objects, L levels, S tokens over all levels, H x W cells of one level.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.box_masks import box_masks


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
    def forward(
        self,
        targets: Sequence[dict[str, Tensor]],
        shapes: Sequence[tuple[int, int]],
        valid_ratios: Tensor,
        padding_mask: Tensor,
    ) -> Tensor:
        """
        Args:
            targets: per image "boxes" (N, 4) cxcywh in [0, 1] of the unpadded image.
            shapes: (H, W) of each level.
            valid_ratios: (B, L, 2) in (0, 1], (w, h).
            padding_mask: (B, S) bool, True = padding.

        Returns:
            (B, S) >= 0; 0 on padding.
        """
        levels = padding_mask.split([height * width for height, width in shapes], dim=1)
        weights = []
        for level, ((height, width), padding) in enumerate(zip(shapes, levels, strict=True)):
            size = valid_ratios.new_tensor([width, height])
            valid_cells = (valid_ratios[:, level] * size).round()
            grid = padding.unflatten(1, (height, width))
            weights.append(self._level(targets, valid_cells, grid).flatten(1))
        return torch.cat(weights, dim=1)

    def _level(
        self, targets: Sequence[dict[str, Tensor]], valid_cells: Tensor, padding: Tensor
    ) -> Tensor:
        """(B, H, W) weights of one level."""
        if self.masks == "none":
            valid = ~padding
            return self.alpha * (valid / valid.sum((1, 2), keepdim=True).clamp(min=1))
        foreground, background = box_masks(targets, valid_cells, padding)
        if self.masks == "location":
            foreground, background = foreground > 0, background > 0
        return self.alpha * foreground + self.beta * background
