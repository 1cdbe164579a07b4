"""What the transformers of the multi-scale detectors share: levels to tokens, proposals, calls.

B images, L levels, S tokens over all levels, D channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers.boxes import inverse_sigmoid
from projects.clockdistill.modeling.detectors.layers.deformable_attention import DeformableAttention
from projects.clockdistill.modeling.detectors.multi_scale.decoder import (
    DeformableTransformerDecoder,
)
from projects.clockdistill.modeling.detectors.multi_scale.encoder import (
    DeformableTransformerEncoder,
)
from projects.clockdistill.modeling.detectors.predictions import Predictions

BASE_SIZE = 0.05  # side of a proposal on the finest level, in [0, 1] of the image; doubles a level
BORDER = 0.01  # a proposal whose centre or size comes nearer to 0 or 1 than this is not used


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


@dataclass(frozen=True)
class TransformerOutput:
    """Everything that the heads and the criterion read.

    Attributes:
        states: (E, B, Q, D) decoder outputs, Q being [denoising | matching].
        anchors: per decoder layer (B, Q, 2) centres or (B, Q, 4) cxcywh in [0, 1]: what the layer's
            box offsets add to.
        proposals: of the encoder, as one layer; None where it makes none.
    """

    states: Tensor
    anchors: Sequence[Tensor]
    proposals: Predictions | None = None


class DeformableTransformer(nn.Module):
    """Base of the transformers: levels to memory, queries to decoder states.

    A family says in `forward` which queries the decoder receives.

    Args:
        encoder: makes the memory.
        decoder: reads it; its heads are set by the detector.
        num_feature_levels: levels that the neck gives.
        two_stage_num_proposals: tokens to choose as queries, where tokens are chosen.
    """

    def __init__(
        self,
        encoder: DeformableTransformerEncoder,
        decoder: DeformableTransformerDecoder,
        num_feature_levels: int,
        two_stage_num_proposals: int,
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.num_feature_levels = num_feature_levels
        self.two_stage_num_proposals = two_stage_num_proposals
        self.embed_dim = encoder.embed_dim
        self.level_embeds = nn.Parameter(torch.empty(num_feature_levels, self.embed_dim))

    def add_proposal_layers(self) -> None:
        """Adds what `proposal_tokens` needs; for a family's constructor."""
        self.enc_output = nn.Linear(self.embed_dim, self.embed_dim)
        self.enc_output_norm = nn.LayerNorm(self.embed_dim)

    def init_weights(self) -> None:
        """Draws Xavier matrices, the attentions' own start, and unit normal level embeddings."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, DeformableAttention):
                module.init_weights()
        nn.init.normal_(self.level_embeds)

    def encode(
        self, features: list[Tensor], masks: list[Tensor], position_encodings: list[Tensor]
    ) -> tuple[Tensor, TokenLevels]:
        """Runs the encoder.

        Args:
            features: per level (B, D, H_l, W_l).
            masks: per level (B, H_l, W_l) bool, True = padding.
            position_encodings: per level (B, D, H_l, W_l).

        Returns:
            memory (B, S, D) and where its tokens are.

        Raises:
            ValueError: if the number of levels differs from `num_feature_levels`.
        """
        if len(features) != self.num_feature_levels:
            raise ValueError(
                f"the neck gives {len(features)} levels, transformer.num_feature_levels is "
                f"{self.num_feature_levels}. Fix: set neck.num_outs to the same number"
            )
        levels = flatten_levels(features, masks, position_encodings, self.level_embeds)
        memory = self.encoder(
            query=levels.tokens,
            query_pos=levels.positions,
            query_key_padding_mask=levels.padding_mask,
            reference_points=levels.reference_points(),
            spatial_shapes=levels.spatial_shapes,
        )
        return memory, levels

    def proposal_tokens(self, memory: Tensor, levels: TokenLevels) -> tuple[Tensor, Tensor]:
        """Returns what the proposal heads read.

        Args:
            memory: (B, S, D).
            levels: where the tokens are.

        Returns:
            tokens: (B, S, D), those without a usable proposal made of zeros.
            proposals_unact: (B, S, 4) of `token_proposals`.
        """
        proposals_unact, usable = token_proposals(levels)
        tokens = memory.masked_fill(~usable[..., None], 0.0)
        return self.enc_output_norm(self.enc_output(tokens)), proposals_unact

    def decode(
        self,
        memory: Tensor,
        levels: TokenLevels,
        content: Tensor,
        query_pos: Tensor | None,
        reference_points: Tensor,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Runs the decoder.

        Args:
            memory: (B, S, D).
            levels: where its tokens are.
            content: (B, Q, D).
            query_pos: (B, Q, D), or None where the decoder makes them.
            reference_points: (B, Q, 2 or 4) in [0, 1] of the unpadded image.
            attn_mask: (Q, Q) bool, True = blocked.

        Returns:
            States and anchors of `TransformerOutput`.
        """
        states, references = self.decoder(
            query=content,
            value=memory,
            query_pos=query_pos,
            key_padding_mask=levels.padding_mask,
            reference_points=reference_points,
            spatial_shapes=levels.spatial_shapes,
            valid_ratios=levels.valid_ratios,
            attn_masks=[attn_mask, None],
        )
        # Not one tensor: refinement turns points into boxes.
        return states, [reference_points, *references[:-1]]


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
        valid_ratios.append(valid / valid.new_tensor((width, height)))
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
    usable = ((boxes > BORDER) & (boxes < 1 - BORDER)).all(-1) & ~levels.padding_mask
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
