"""The encoder's own proposals, from which the decoder's anchors are chosen."""

import torch
from torch import Tensor

from projects.clockdistill.modeling.detectors.levels import TokenLevels

BASE_SIZE = 0.05  # side of a proposal on the finest level, in [0, 1] of the image; doubles a level
BORDER = 0.01  # a proposal whose centre or size comes nearer to 0 or 1 than this is not used


def token_proposals(levels: TokenLevels) -> tuple[Tensor, Tensor]:
    """One square box around every token, larger on coarser levels.

    Source: Deformable DETR (arXiv:2010.04159), appendix A.4, "Two-Stage Deformable DETR".

    Returns:
        boxes_unact: (B, S, 4) cxcywh before sigmoid; +inf where not usable.
        usable: (B, S) bool, False for padding and for boxes at the border.
    """
    centres = levels.cell_centres()
    sides = [
        centres.new_full((height * width,), BASE_SIZE * 2**level)
        for level, (height, width) in enumerate(levels.shapes)
    ]
    side = torch.cat(sides)[None, :, None].expand(len(centres), -1, 2)
    boxes = torch.cat((centres, side), dim=-1)
    usable = ((boxes > BORDER) & (boxes < 1 - BORDER)).all(-1) & ~levels.padding_mask
    boxes_unact = torch.logit(boxes.clamp(BORDER, 1 - BORDER))
    return boxes_unact.masked_fill(~usable[..., None], float("inf")), usable


def choose_tokens(class_logits: Tensor, padding_mask: Tensor, count: int) -> Tensor:
    """Indices (B, count) of the tokens with the highest class logit, padding last of all.

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
            f"two_stage_num_proposals={count}, but images of this size give only {tokens} tokens; "
            "lower num_queries or use larger images"
        )
    best = class_logits.amax(-1).masked_fill(padding_mask, float("-inf"))
    return best.topk(count, dim=1).indices
