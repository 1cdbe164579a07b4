"""What the transformers of the multi-scale detectors share."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers.deformable_attention import DeformableAttention
from projects.clockdistill.modeling.detectors.levels import TokenLevels, flatten_levels
from projects.clockdistill.modeling.detectors.multi_scale.decoder import (
    DeformableTransformerDecoder,
)
from projects.clockdistill.modeling.detectors.multi_scale.encoder import (
    DeformableTransformerEncoder,
)
from projects.clockdistill.modeling.detectors.multi_scale.two_stage import token_proposals
from projects.clockdistill.modeling.detectors.predictions import Predictions


@dataclass(frozen=True)
class TransformerOutput:
    """Everything that the heads and the criterion read.

    Attributes:
        states: (E, B, Q, D) decoder outputs, Q being [denoising | matching].
        anchors: per stage (B, Q, 2) centres or (B, Q, 4) cxcywh in [0, 1]: what the stage's box
            offsets add to.
        proposal_logits: (B, P, K) of the encoder's proposals, None where it makes none.
        proposal_boxes: (B, P, 4) cxcywh in [0, 1] of the same proposals.
    """

    states: Tensor
    anchors: Sequence[Tensor]
    proposal_logits: Tensor | None = None
    proposal_boxes: Tensor | None = None

    @property
    def proposals(self) -> Predictions | None:
        """The encoder's proposals as one stage."""
        if self.proposal_logits is None:
            return None
        return Predictions(self.proposal_logits[None], self.proposal_boxes[None])


class DeformableTransformer(nn.Module):
    """Base of the transformers: levels to memory, queries to stages.

    A family says in `forward` which queries the decoder receives.

    Args:
        encoder: see `DeformableTransformerEncoder`.
        decoder: see `DeformableTransformerDecoder`; its heads are set by the detector.
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
        """For a family's constructor: what `proposal_tokens` needs."""
        self.enc_output = nn.Linear(self.embed_dim, self.embed_dim)
        self.enc_output_norm = nn.LayerNorm(self.embed_dim)

    def init_weights(self) -> None:
        """Xavier for every matrix, the attentions' own start, unit normal for the levels."""
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
            memory (B, S, D) and where its tokens stand.

        Raises:
            ValueError: if the number of levels differs from `num_feature_levels`.
        """
        if len(features) != self.num_feature_levels:
            raise ValueError(
                f"the neck gives {len(features)} levels, transformer.num_feature_levels is "
                f"{self.num_feature_levels}; neck.num_outs must be the same"
            )
        levels = flatten_levels(features, masks, position_encodings, self.level_embeds)
        memory = self.encoder(
            query=levels.tokens,
            key=None,
            value=None,
            query_pos=levels.positions,
            query_key_padding_mask=levels.padding_mask,
            spatial_shapes=levels.spatial_shapes,
            reference_points=levels.encoder_reference_points(),
            level_start_index=levels.level_start_index,
            valid_ratios=levels.valid_ratios,
        )
        return memory, levels

    def proposal_tokens(self, memory: Tensor, levels: TokenLevels) -> tuple[Tensor, Tensor]:
        """What the proposal heads read.

        Args:
            memory: (B, S, D).
            levels: where the tokens stand.

        Returns:
            tokens: (B, S, D), those without a usable proposal made of zeros.
            proposals_unact: (B, S, 4), see `token_proposals`.
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
            levels: where its tokens stand.
            content: (B, Q, D).
            query_pos: (B, Q, D), or None where the decoder makes them.
            reference_points: (B, Q, 2 or 4) in [0, 1] of the unpadded image.
            attn_mask: (Q, Q) bool, True = blocked.

        Returns:
            States and anchors of `TransformerOutput`.
        """
        states, references = self.decoder(
            query=content,
            key=memory,
            value=memory,
            query_pos=query_pos,
            key_padding_mask=levels.padding_mask,
            reference_points=reference_points,
            spatial_shapes=levels.spatial_shapes,
            level_start_index=levels.level_start_index,
            valid_ratios=levels.valid_ratios,
            attn_masks=[attn_mask, None],
        )
        # Not one tensor: refinement turns points into boxes.
        return states, [reference_points, *references[:-1]]
