"""Deformable-DETR's transformer: learned queries, or the encoder's best tokens as queries."""

from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers.float32_linear import Float32Linear
from projects.clockdistill.modeling.detectors.layers.position_encoding import box_features
from projects.clockdistill.modeling.detectors.multi_scale.tokens import TokenLevels, choose_tokens
from projects.clockdistill.modeling.detectors.multi_scale.transformer import (
    DeformableTransformer,
    DeformableTransformerDecoder,
    DeformableTransformerEncoder,
    TransformerOutput,
)
from projects.clockdistill.modeling.detectors.predictions import Predictions

NO_OBJECT = -100.0  # class logit of padding: its probability, focal loss and gradient are 0


class DeformableDETRTransformer(DeformableTransformer):
    """Encoder and decoder; in two stages, the encoder proposes the boxes that the decoder refines.

    Source: Deformable DETR (arXiv:2010.04159), section 4.2; appendix A.4 (two-stage).

    Arguments that are not listed are those of `DeformableTransformer`.

    Args:
        as_two_stage: queries are made from the encoder's proposals instead of learned.
        two_stage_num_proposals: tokens chosen in two stages, which is the number of queries.

    Raises:
        ValueError: in two stages, if the width is not divisible by 4.
    """

    def __init__(
        self,
        encoder: DeformableTransformerEncoder,
        decoder: DeformableTransformerDecoder,
        num_feature_levels: int = 4,
        as_two_stage: bool = False,
        two_stage_num_proposals: int = 300,
    ):
        super().__init__(encoder, decoder, num_feature_levels, two_stage_num_proposals)
        self.as_two_stage = as_two_stage
        if as_two_stage:
            if self.embed_dim % 4:
                raise ValueError(f"embed_dim must be divisible by 4, got {self.embed_dim}")
            self.add_proposal_layers()
            # embed_dim / 2 sine features for each of the four coordinates of a proposal
            self.pos_trans = nn.Linear(2 * self.embed_dim, 2 * self.embed_dim)
            self.pos_trans_norm = nn.LayerNorm(2 * self.embed_dim)
        else:
            self.reference_points = Float32Linear(self.embed_dim, 2)
        self.init_weights()
        if not as_two_stage:
            nn.init.xavier_normal_(self.reference_points.weight)
            nn.init.zeros_(self.reference_points.bias)

    def forward(
        self,
        features: list[Tensor],
        masks: list[Tensor],
        position_encodings: list[Tensor],
        query_embed: Tensor | None = None,
    ) -> TransformerOutput:
        """Runs encoder and decoder; the first three arguments are those of `encode`.

        Args:
            query_embed: (Q, 2 * D), position and content of the learned queries; None in two
                stages.

        Returns:
            In two stages with a proposal for every token; padding has the logit `NO_OBJECT`.
        """
        memory, levels = self.encode(features, masks, position_encodings)
        if not self.as_two_stage:
            query_pos, content = query_embed.expand(memory.shape[0], -1, -1).chunk(2, dim=-1)
            reference_points = self.reference_points(query_pos).sigmoid()
            states, anchors = self.decode(memory, levels, content, query_pos, reference_points)
            return TransformerOutput(states, anchors)
        logits, boxes = self.propose(memory, levels)
        # Class 0 stands for any object, as in `DeformableCriterion`.
        chosen = choose_tokens(
            logits[..., :1].detach(), levels.padding_mask, self.two_stage_num_proposals
        )
        reference_points = boxes.detach().gather(1, chosen[..., None].expand(-1, -1, 4))
        encoded = self.pos_trans(box_features(reference_points, self.embed_dim // 2))
        query_pos, content = self.pos_trans_norm(encoded).chunk(2, dim=-1)
        states, anchors = self.decode(memory, levels, content, query_pos, reference_points)
        return TransformerOutput(states, anchors, Predictions(logits[None], boxes[None]))

    def propose(self, memory: Tensor, levels: TokenLevels) -> tuple[Tensor, Tensor]:
        """Returns a proposal per token: logits (B, S, K) and boxes (B, S, 4) cxcywh in [0, 1]."""
        tokens, proposals_unact = self.proposal_tokens(memory, levels)
        logits = self.decoder.class_embed[-1](tokens)
        logits = logits.masked_fill(levels.padding_mask[..., None], NO_OBJECT)
        return logits, (self.decoder.bbox_embed[-1](tokens) + proposals_unact).sigmoid()
