"""Sine encodings of grid positions and of reference boxes."""

import math

import torch
from torch import Tensor, nn


def sine_features(position: Tensor, num_feats: int, temperature: float) -> Tensor:
    """Returns sine and cosine of a position at geometrically growing wavelengths.

    Source: Attention Is All You Need (arXiv:1706.03762), section 3.5.

    Args:
        position: (...) in radians of the shortest wavelength.
        num_feats: features per position, even.
        temperature: ratio of the longest to the shortest wavelength.

    Returns:
        (..., num_feats) in [-1, 1]: sin, cos, sin, cos, ...
    """
    pair = torch.arange(num_feats // 2, dtype=torch.float32, device=position.device)
    angle = position[..., None] / temperature ** (2 * pair / num_feats)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)


def box_features(boxes: Tensor, num_feats: int) -> Tensor:
    """Encodes boxes for position queries, one coordinate after another, at temperature 10000.

    Source: Deformable DETR (arXiv:2010.04159), appendix A.4, "Two-Stage Deformable DETR".

    Args:
        boxes: (..., 4) in [0, 1].
        num_feats: features per coordinate, even.

    Returns:
        (..., 4 * num_feats), the coordinates in the order given.
    """
    return sine_features(boxes * (2 * math.pi), num_feats, 10000.0).flatten(-2)


def reference_features(boxes: Tensor, num_feats: int) -> Tensor:
    """Encodes reference boxes for the position queries of a decoder layer, as `box_features` does.

    Source: DAB-DETR (arXiv:2201.12329), section 4.1. The order y, x, w, h is that of the
    public checkpoints.

    Args:
        boxes: (..., 4) cxcywh in [0, 1].
        num_feats: features per coordinate, even.

    Returns:
        (..., 4 * num_feats).
    """
    x, y, w, h = boxes.unbind(-1)  # a list as index would be copied from the host
    return box_features(torch.stack((y, x, w, h), dim=-1), num_feats)


class PositionEmbeddingSine(nn.Module):
    """Encodes each cell of a feature map by its row and column among the valid cells.

    Source: DETR (arXiv:2005.12872), appendix A.4.

    Args:
        num_pos_feats: features per axis, even; the encoding has twice as many channels.
        temperature: ratio of the longest to the shortest wavelength.
        normalize: positions run from 0 to `scale` over the valid cells instead of counting.
        scale: end of the normalised range, in radians.
        eps: keeps the normalisation finite where a row or column has no valid cell.
        offset: added to the 1-based count before normalising; -0.5 gives cell centres.
    """

    def __init__(
        self,
        num_pos_feats: int = 64,
        temperature: float = 10000,
        normalize: bool = False,
        scale: float = 2 * math.pi,
        eps: float = 1e-6,
        offset: float = 0.0,
    ):
        super().__init__()
        if num_pos_feats % 2:
            raise ValueError(f"num_pos_feats must be even, got {num_pos_feats}")
        self.num_pos_feats = num_pos_feats
        self.temperature = temperature
        self.normalize = normalize
        self.scale = scale
        self.eps = eps
        self.offset = offset

    def forward(self, mask: Tensor) -> Tensor:
        """Encodes the positions of one level.

        Args:
            mask: (B, H, W) bool, True = padding.

        Returns:
            (B, 2 * num_pos_feats, H, W) float32, rows first.
        """
        valid = ~mask
        y = valid.cumsum(1, dtype=torch.float32)
        x = valid.cumsum(2, dtype=torch.float32)
        if self.normalize:
            y = (y + self.offset) / (y[:, -1:, :] + self.eps) * self.scale
            x = (x + self.offset) / (x[:, :, -1:] + self.eps) * self.scale
        features = [sine_features(p, self.num_pos_feats, self.temperature) for p in (y, x)]
        return torch.cat(features, dim=-1).permute(0, 3, 1, 2)
