"""Global context block. Shapes: B images, C channels, H x W cells."""

import torch
from torch import Tensor, nn


class GcBlock(nn.Module):
    """Adds to every cell what one attention over all cells sees.

    Source: GCNet (arXiv:1904.11492), as FGD's sec. 3.2 (arXiv:2111.11837) has it:
    R(F) = F + W_v2 ReLU(LN(W_v1 sum_j softmax_j(W_k F) F_j)), with C / 2 channels between. The
    last layer starts at 0, so R starts as the identity, and W_k has no bias, which a softmax
    could not see. Padded cells have no part in the attention.

    Args:
        dim: C.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.attention = nn.Conv2d(dim, 1, kernel_size=1, bias=False)
        self.transform = nn.Sequential(
            nn.Linear(dim, dim // 2), nn.LayerNorm(dim // 2), nn.ReLU(), nn.Linear(dim // 2, dim)
        )
        nn.init.kaiming_normal_(self.attention.weight)
        nn.init.zeros_(self.transform[-1].weight)
        nn.init.zeros_(self.transform[-1].bias)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """
        Args:
            x: (B, C, H, W) float32, finite also on padding.
            valid: (B, 1, H, W) bool, False = padding.

        Returns:
            (B, C, H, W) float32, 0 on padding.
        """
        scores = self.attention(x).float().masked_fill(~valid, torch.finfo(torch.float32).min)
        attention = scores.flatten(2).softmax(dim=2)  # (B, 1, H*W)
        # not a matrix product, which autocast would lower to a precision that rounds 1 / (H W)
        context = (x.flatten(2) * attention).sum(dim=2)  # (B, C)
        added = self.transform(context).float()
        return (x + added[:, :, None, None]).masked_fill(~valid, 0)
