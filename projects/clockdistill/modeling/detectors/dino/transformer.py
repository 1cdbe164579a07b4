"""DINO's transformer: encoder, mixed query selection, decoder."""

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.dino.decoder import DINOTransformerDecoder
from projects.clockdistill.modeling.detectors.levels import TokenLevels
from projects.clockdistill.modeling.detectors.multi_scale.encoder import (
    DeformableTransformerEncoder,
)
from projects.clockdistill.modeling.detectors.multi_scale.transformer import (
    DeformableTransformer,
    TransformerOutput,
)
from projects.clockdistill.modeling.detectors.multi_scale.two_stage import choose_tokens


class DINOTransformer(DeformableTransformer):
    """Encoder, mixed query selection, decoder.

    Source: DINO (arXiv:2203.03605), section 3.4: anchors come from the encoder's best tokens,
    contents are learnt.

    Args:
        encoder: see `DeformableTransformerEncoder`.
        decoder: see `DINOTransformerDecoder`; its heads are set by the detector.
        num_feature_levels: levels that the neck gives.
        two_stage_num_proposals: tokens chosen, which is the number of matching queries.
        learnt_init_query: contents are learnt; otherwise those of the chosen tokens.
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
        extra_content: Tensor | None = None,
        extra_anchors: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> TransformerOutput:
        """Runs encoder and decoder.

        Args:
            features: per level (B, D, H_l, W_l).
            masks: per level (B, H_l, W_l) bool, True = padding.
            position_encodings: per level (B, D, H_l, W_l).
            extra_content: (B, P, D) of queries that go before the matching ones (denoising).
            extra_anchors: (B, P, 4) their anchors in [0, 1].
            attn_mask: (P + Q, P + Q) bool, True = blocked.

        Returns:
            With the chosen tokens as proposals.

        Raises:
            ValueError: if the number of levels differs from `num_feature_levels`.
        """
        memory, levels = self.encode(features, masks, position_encodings)
        content, logits, boxes = self.select_queries(memory, levels)
        anchors = boxes.detach()
        if extra_content is not None:
            content = torch.cat((extra_content.to(content.dtype), content), dim=1)
            anchors = torch.cat((extra_anchors, anchors), dim=1)
        states, anchors = self.decode(memory, levels, content, None, anchors, attn_mask)
        return TransformerOutput(states, anchors, logits, boxes)

    def select_queries(self, memory: Tensor, levels: TokenLevels) -> tuple[Tensor, Tensor, Tensor]:
        """Chooses the tokens that look most like objects.

        Args:
            memory: (B, S, D).
            levels: where the tokens stand.

        Returns:
            content: (B, Q, D), logits: (B, Q, K) and boxes: (B, Q, 4) of the chosen tokens.
        """
        objects, proposals_unact = self.proposal_tokens(memory, levels)
        class_head, box_head = self.decoder.class_embed[-1], self.decoder.bbox_embed[-1]
        logits = class_head(objects)
        chosen = choose_tokens(logits.detach(), levels.padding_mask, self.two_stage_num_proposals)[
            ..., None
        ]
        logits = logits.gather(1, chosen.expand(-1, -1, logits.shape[-1]))
        objects = objects.gather(1, chosen.expand(-1, -1, self.embed_dim))
        # The box head runs on the chosen tokens alone: it is the same for each token.
        proposals_unact = proposals_unact.gather(1, chosen.expand(-1, -1, 4))
        boxes = (box_head(objects) + proposals_unact).sigmoid()
        if self.learnt_init_query:
            content = self.tgt_embed.weight.expand(len(memory), -1, -1)
        else:
            content = objects.detach()
        return content, logits, boxes
