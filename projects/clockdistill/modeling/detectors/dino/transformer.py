"""DINO's transformer: mixed query selection, and a decoder whose anchors are refined by layer."""

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.dino.denoising import DenoisingQueries
from projects.clockdistill.modeling.detectors.layers.feed_forward import MLP
from projects.clockdistill.modeling.detectors.layers.position_encoding import reference_features
from projects.clockdistill.modeling.detectors.multi_scale.tokens import TokenLevels, choose_tokens
from projects.clockdistill.modeling.detectors.multi_scale.transformer import (
    DeformableTransformer,
    DeformableTransformerDecoder,
    DeformableTransformerEncoder,
    TransformerOutput,
)
from projects.clockdistill.modeling.detectors.predictions import Predictions


class DINOTransformerDecoder(DeformableTransformerDecoder):
    """Decoder layers that refine boxes; anchors give the position queries.

    Source: DINO (arXiv:2203.03605), section 3.5 (look forward twice); DAB-DETR
    (arXiv:2201.12329), section 4.1 (position queries from anchors).

    Reference points are always boxes, and the detector always sets the heads. Arguments that are
    not listed are those of `DeformableTransformerDecoder`.

    Args:
        embed_dim: width of the queries, divisible by 4.
        look_forward_twice: a layer's box loss also trains the layer before it.
    """

    def __init__(
        self,
        embed_dim: int = 256,
        num_heads: int = 8,
        feedforward_dim: int = 1024,
        attn_dropout: float = 0.1,
        ffn_dropout: float = 0.1,
        num_layers: int = 6,
        num_feature_levels: int = 4,
        look_forward_twice: bool = True,
    ):
        if embed_dim % 4:
            raise ValueError(f"embed_dim must be divisible by 4, got {embed_dim}")
        super().__init__(
            embed_dim,
            num_heads,
            feedforward_dim,
            attn_dropout,
            ffn_dropout,
            num_layers,
            num_feature_levels,
        )
        self.look_forward_twice = look_forward_twice
        # embed_dim / 2 sine features for each of the four coordinates of an anchor
        self.ref_point_head = MLP(2 * embed_dim, embed_dim, embed_dim, 2)
        self.norm = nn.LayerNorm(embed_dim)

    def position_queries(self, query_pos: Tensor | None, level_references: Tensor) -> Tensor:
        """Encodes the anchors in units of the finest level."""
        features = reference_features(level_references[:, :, 0], self.embed_dim // 2)
        return self.ref_point_head(features)


class DINOTransformer(DeformableTransformer):
    """Encoder, mixed query selection, decoder.

    Source: DINO (arXiv:2203.03605), section 3.4: anchors come from the encoder's best tokens,
    contents are learned.

    Arguments that are not listed are those of `DeformableTransformer`.

    Args:
        two_stage_num_proposals: tokens chosen, which is the number of matching queries.
        learnt_init_query: contents are learned; otherwise those of the chosen tokens.
    """

    def __init__(
        self,
        encoder: DeformableTransformerEncoder,
        decoder: DINOTransformerDecoder,
        num_feature_levels: int = 4,
        two_stage_num_proposals: int = 900,
        learnt_init_query: bool = True,
    ):
        super().__init__(encoder, decoder, num_feature_levels, two_stage_num_proposals)
        self.learnt_init_query = learnt_init_query
        if learnt_init_query:
            self.tgt_embed = nn.Embedding(two_stage_num_proposals, self.embed_dim)
        self.add_proposal_layers()
        self.init_weights()

    def forward(
        self,
        features: list[Tensor],
        masks: list[Tensor],
        position_encodings: list[Tensor],
        denoising: DenoisingQueries | None = None,
    ) -> TransformerOutput:
        """Runs encoder and decoder; the first three arguments are those of `encode`.

        Args:
            denoising: queries that go before the matching ones.

        Returns:
            With the chosen tokens as proposals.
        """
        memory, levels = self.encode(features, masks, position_encodings)
        content, logits, boxes = self.select_queries(memory, levels)
        anchors, attn_mask = boxes.detach(), None
        if denoising is not None:
            content = torch.cat((denoising.content.to(content.dtype), content), dim=1)
            anchors = torch.cat((denoising.anchors, anchors), dim=1)
            attn_mask = denoising.attn_mask
        states, anchors = self.decode(memory, levels, content, None, anchors, attn_mask)
        return TransformerOutput(states, anchors, Predictions(logits[None], boxes[None]))

    def select_queries(self, memory: Tensor, levels: TokenLevels) -> tuple[Tensor, Tensor, Tensor]:
        """Chooses the tokens that look most like objects.

        Args:
            memory: (B, S, D).
            levels: where the tokens are.

        Returns:
            content: (B, Q, D), logits: (B, Q, K) and boxes: (B, Q, 4) of the chosen tokens.
        """
        objects, proposals_unact = self.proposal_tokens(memory, levels)
        class_head, box_head = self.decoder.class_embed[-1], self.decoder.bbox_embed[-1]
        logits = class_head(objects)
        chosen = choose_tokens(logits.detach(), levels.padding_mask, self.two_stage_num_proposals)
        chosen = chosen[..., None]
        logits = logits.gather(1, chosen.expand(-1, -1, logits.shape[-1]))
        objects = objects.gather(1, chosen.expand(-1, -1, self.embed_dim))
        # The box head runs on the chosen tokens alone: it is the same for each token.
        proposals_unact = proposals_unact.gather(1, chosen.expand(-1, -1, 4))
        boxes = (box_head(objects) + proposals_unact).sigmoid()
        if self.learnt_init_query:
            content = self.tgt_embed.weight.expand(memory.shape[0], -1, -1)
        else:
            content = objects.detach()
        return content, logits, boxes
