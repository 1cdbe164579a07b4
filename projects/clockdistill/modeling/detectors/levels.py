"""Feature maps of several levels as one row of tokens. B images, L levels, S tokens in all."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class TokenLevels:
    """The tokens of all levels and where they stand.

    Attributes:
        tokens: (B, S, D), level after level, rows first.
        positions: (B, S, D) position encoding with the level's embedding.
        padding_mask: (B, S) bool, True = padding.
        shapes: (H, W) of each level, on the host.
        spatial_shapes: (L, 2) int64, the same as a tensor.
        level_start_index: (L,) int64.
        valid_cells: (B, L, 2) float32 cells that are not padding, as (columns, rows).
    """

    tokens: Tensor
    positions: Tensor
    padding_mask: Tensor
    shapes: list[tuple[int, int]]
    spatial_shapes: Tensor
    level_start_index: Tensor
    valid_cells: Tensor

    @property
    def valid_ratios(self) -> Tensor:
        """(B, L, 2) in (0, 1] as (w, h): the part of each level that is not padding."""
        return self.valid_cells / self.spatial_shapes.flip(-1)

    def cell_centres(self) -> Tensor:
        """(B, S, 2) as (x, y) in [0, 1] of the unpadded image; above 1 in the padding."""
        centres = []
        for level, (height, width) in enumerate(self.shapes):
            y, x = torch.meshgrid(
                torch.arange(height, dtype=torch.float32, device=self.tokens.device) + 0.5,
                torch.arange(width, dtype=torch.float32, device=self.tokens.device) + 0.5,
                indexing="ij",
            )
            cells = torch.stack((x, y), dim=-1).flatten(0, 1)  # (H * W, 2)
            centres.append(cells / self.valid_cells[:, level, None])
        return torch.cat(centres, dim=1)

    def encoder_reference_points(self) -> Tensor:
        """(B, S, L, 2): every token's own centre, in [0, 1] of each padded level."""
        return self.cell_centres()[:, :, None] * self.valid_ratios[:, None]


def level_masks(mask: Tensor, features: Sequence[Tensor]) -> list[Tensor]:
    """Padding of each level: the image mask (B, H, W) sampled at each map's cells.

    Nearest sampling reads the pixel at a cell's top left corner, so that a cell which holds any
    row and column of the image stays valid and each level keeps at least one cell.
    """
    pixels = mask[:, None].float()
    return [F.interpolate(pixels, size=x.shape[-2:])[:, 0].bool() for x in features]


def flatten_levels(
    features: Sequence[Tensor],
    masks: Sequence[Tensor],
    position_encodings: Sequence[Tensor],
    level_embeds: Tensor,
) -> TokenLevels:
    """Lays the levels out as one row of tokens.

    Args:
        features: each (B, D, H_l, W_l).
        masks: each (B, H_l, W_l) bool, True = padding.
        position_encodings: each (B, D, H_l, W_l).
        level_embeds: (L, D), added to the positions so that levels can be told apart.

    Raises:
        ValueError: if features and position encodings differ in width.
    """
    if position_encodings[0].shape[1] != features[0].shape[1]:
        raise ValueError(
            f"position_embedding gives {position_encodings[0].shape[1]} channels, the neck "
            f"{features[0].shape[1]}; set position_embedding.num_pos_feats to embed_dim / 2"
        )
    shapes = [(x.shape[-2], x.shape[-1]) for x in features]
    device = features[0].device
    spatial_shapes = torch.tensor(shapes, dtype=torch.int64, device=device)
    sizes = spatial_shapes.prod(-1)
    positions = [
        encoding.flatten(2).transpose(1, 2) + embed
        for encoding, embed in zip(position_encodings, level_embeds, strict=True)
    ]
    valid_cells = [torch.stack(((~m[:, 0]).sum(1), (~m[:, :, 0]).sum(1)), -1) for m in masks]
    return TokenLevels(
        tokens=torch.cat([x.flatten(2).transpose(1, 2) for x in features], dim=1),
        positions=torch.cat(positions, dim=1),
        padding_mask=torch.cat([m.flatten(1) for m in masks], dim=1),
        shapes=shapes,
        spatial_shapes=spatial_shapes,
        level_start_index=sizes.cumsum(0) - sizes,
        valid_cells=torch.stack(valid_cells, dim=1).float(),
    )


def host_shapes(spatial_shapes: Tensor) -> list[tuple[int, int]]:
    """(L, 2) as Python numbers, which slicing by level needs; one device sync."""
    return [(height, width) for height, width in spatial_shapes.tolist()]
