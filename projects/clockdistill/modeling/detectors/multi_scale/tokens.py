"""The tokens of all levels, and the boxes that a two-stage encoder proposes around them.

B images, L levels, S tokens over all levels, D channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from projects.clockdistill.modeling.detectors.layers.boxes import inverse_sigmoid

BASE_SIZE = 0.05  # side of a proposal on the finest level, in [0, 1] of the image; doubles a level
BORDER = 0.01  # a proposal whose centre or size comes nearer to 0 or 1 than this is not used
# A centre (i + 0.5) / n may lie exactly at the border, and runtimes round this division in their
# own ways, by up to 1.2e-7. Other centres are 0.01 / n or more away from it, so that the margin
# changes none of them up to n = 16,000 cells.
BORDER_MARGIN = 5e-7


@dataclass(frozen=True)
class TokenLevels:
    """The tokens of all levels and where they are.

    Attributes:
        tokens: (B, S, D), level after level, rows first.
        positions: (B, S, D) position encoding with the level's embedding.
        padding_mask: (B, S) bool, True = padding.
        spatial_shapes: (H, W) of each level, on the host.
        centres: (B, S, 2) of the tokens' cells as (x, y) in [0, 1] of the unpadded image; above 1
            in the padding.
        valid_ratios: (B, L, 2) in (0, 1] as (w, h): the part of each level that is not padding.
    """

    tokens: Tensor
    positions: Tensor
    padding_mask: Tensor
    spatial_shapes: list[tuple[int, int]]
    centres: Tensor
    valid_ratios: Tensor

    def reference_points(self) -> Tensor:
        """Returns every token's own centre (B, S, L, 2), in [0, 1] of each padded level."""
        return self.centres[:, :, None] * self.valid_ratios[:, None]


def flatten_levels(
    features: Sequence[Tensor],
    masks: Sequence[Tensor],
    position_encodings: Sequence[Tensor],
    level_embeds: Tensor,
) -> TokenLevels:
    """Joins the levels into one row of tokens.

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
            f"{features[0].shape[1]}. Fix: set position_embedding.num_pos_feats to embed_dim / 2"
        )
    positions = [
        encoding.flatten(2).transpose(1, 2) + embed
        for encoding, embed in zip(position_encodings, level_embeds.unbind(), strict=True)
    ]
    shapes = [(x.shape[-2], x.shape[-1]) for x in features]
    # Cells of each level that are not padding, as (columns, rows): (B, 2) each.
    valid_cells = [
        torch.stack(((~m[:, 0]).sum(1), (~m[:, :, 0]).sum(1)), -1).float() for m in masks
    ]
    centres, valid_ratios = [], []
    for (height, width), valid in zip(shapes, valid_cells, strict=True):
        y, x = torch.meshgrid(
            torch.arange(height, dtype=torch.float32, device=valid.device) + 0.5,
            torch.arange(width, dtype=torch.float32, device=valid.device) + 0.5,
            indexing="ij",
        )
        cells = torch.stack((x, y), dim=-1).flatten(0, 1)  # (H * W, 2)
        centres.append(cells / valid[:, None])
        size = torch.stack((valid.new_full((), width), valid.new_full((), height)))
        valid_ratios.append(valid / size)
    return TokenLevels(
        tokens=torch.cat([x.flatten(2).transpose(1, 2) for x in features], dim=1),
        positions=torch.cat(positions, dim=1),
        padding_mask=torch.cat([m.flatten(1) for m in masks], dim=1),
        spatial_shapes=shapes,
        centres=torch.cat(centres, dim=1),
        valid_ratios=torch.stack(valid_ratios, dim=1),
    )


def token_proposals(levels: TokenLevels) -> tuple[Tensor, Tensor]:
    """Returns one square box around every token, larger on coarser levels.

    Source: Deformable DETR (arXiv:2010.04159), appendix A.4, "Two-Stage Deformable DETR".

    Returns:
        boxes_unact: (B, S, 4) cxcywh before sigmoid; +inf where not usable.
        usable: (B, S) bool, False for padding and for boxes at the border.
    """
    sides = [
        levels.centres.new_full((height * width, 2), BASE_SIZE * 2**level)
        for level, (height, width) in enumerate(levels.spatial_shapes)
    ]
    boxes = torch.cat((levels.centres, torch.cat(sides).expand_as(levels.centres)), dim=-1)
    border = BORDER + BORDER_MARGIN
    usable = ((boxes > border) & (boxes < 1 - border)).all(-1) & ~levels.padding_mask
    boxes_unact = inverse_sigmoid(boxes, eps=BORDER)
    return boxes_unact.masked_fill(~usable[..., None], float("inf")), usable


def choose_tokens(class_logits: Tensor, padding_mask: Tensor, count: int) -> Tensor:
    """Returns indices (B, count) of the tokens with the highest class logit, padding last of all.

    Tokens at the image's border compete with the logit of an empty token, as the public
    checkpoints were trained. Padding must not: how much of it there is depends on the other
    images of the batch, and each padded token could push a real one out.

    Args:
        class_logits: (B, S, K).
        padding_mask: (B, S) bool, True = padding.
        count: tokens to choose.

    Raises:
        ValueError: if there are fewer tokens than `count`.
    """
    tokens = class_logits.shape[1]
    if tokens < count:
        raise ValueError(
            f"two_stage_num_proposals={count}, but images of this size give only {tokens} tokens. "
            "Fix: lower num_queries or use larger images"
        )
    best = class_logits.amax(-1).masked_fill(padding_mask, float("-inf"))
    return best.topk(count, dim=1).indices
