"""DINO's transformer: encoder, mixed query selection, decoder."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .dino_decoder import DINOTransformerDecoder
from .dino_encoder import DINOTransformerEncoder
from .layers.deformable_attention import DeformableAttention
from .levels import TokenLevels, flatten_levels
from .two_stage import choose_tokens, token_proposals


@dataclass(frozen=True)
class DINOTransformerOutput:
    """Everything that the heads and the criterion read.

    Attributes:
        states: (E, B, Q, D) normed decoder outputs, Q being [denoising | matching].
        anchors: (E, B, Q, 4) in [0, 1]: what each stage's box offsets add to.
        proposal_logits: (B, num_proposals, K) of the chosen tokens.
        proposal_boxes: (B, num_proposals, 4) cxcywh in [0, 1] of the chosen tokens.
    """

    states: Tensor
    anchors: Tensor
    proposal_logits: Tensor
    proposal_boxes: Tensor


class DINOTransformer(nn.Module):
    """Encoder, mixed query selection, decoder.

    Source: DINO (arXiv:2203.03605), section 3.4: anchors come from the encoder's best tokens,
    contents are learnt.

    Args:
        encoder: see `DINOTransformerEncoder`.
        decoder: see `DINOTransformerDecoder`; its heads are set by the detector.
        num_feature_levels: levels that the neck gives.
        two_stage_num_proposals: tokens chosen, which is the number of matching queries.
        learnt_init_query: contents are learnt; otherwise those of the chosen tokens.
    """

    def __init__(
        self,
        encoder: DINOTransformerEncoder,
        decoder: DINOTransformerDecoder,
        num_feature_levels: int = 4,
        two_stage_num_proposals: int = 900,
        learnt_init_query: bool = True,
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.num_feature_levels = num_feature_levels
        self.two_stage_num_proposals = two_stage_num_proposals
        self.learnt_init_query = learnt_init_query
        self.embed_dim = encoder.embed_dim
        self.level_embeds = nn.Parameter(torch.empty(num_feature_levels, self.embed_dim))
        if learnt_init_query:
            self.tgt_embed = nn.Embedding(two_stage_num_proposals, self.embed_dim)
        self.enc_output = nn.Linear(self.embed_dim, self.embed_dim)
        self.enc_output_norm = nn.LayerNorm(self.embed_dim)
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier for every matrix, the attentions' own start, unit normal for the levels."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, DeformableAttention):
                module.init_weights()
        nn.init.normal_(self.level_embeds)

    def forward(
        self,
        features: list[Tensor],
        masks: list[Tensor],
        position_encodings: list[Tensor],
        extra_content: Tensor | None = None,
        extra_anchors: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> DINOTransformerOutput:
        """Runs encoder and decoder.

        Args:
            features: per level (B, D, H_l, W_l).
            masks: per level (B, H_l, W_l) bool, True = padding.
            position_encodings: per level (B, D, H_l, W_l).
            extra_content: (B, P, D) of queries that go before the matching ones (denoising).
            extra_anchors: (B, P, 4) their anchors in [0, 1].
            attn_mask: (P + Q, P + Q) bool, True = blocked.

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
        content, logits, boxes = self.select_queries(memory, levels)
        anchors = boxes.detach()
        if extra_content is not None:
            content = torch.cat((extra_content.to(content.dtype), content), dim=1)
            anchors = torch.cat((extra_anchors, anchors), dim=1)
        states, references = self.decoder(
            query=content,
            key=memory,
            value=memory,
            query_pos=None,
            key_padding_mask=levels.padding_mask,
            reference_points=anchors,
            spatial_shapes=levels.spatial_shapes,
            level_start_index=levels.level_start_index,
            valid_ratios=levels.valid_ratios,
            attn_masks=[attn_mask, None],
        )
        anchors = torch.cat((anchors[None], references[:-1]))
        return DINOTransformerOutput(states, anchors, logits, boxes)

    def select_queries(self, memory: Tensor, levels: TokenLevels) -> tuple[Tensor, Tensor, Tensor]:
        """Chooses the tokens that look most like objects.

        Args:
            memory: (B, S, D).
            levels: where the tokens stand.

        Returns:
            content: (B, Q, D), logits: (B, Q, K) and boxes: (B, Q, 4) of the chosen tokens.
        """
        proposals_unact, usable = token_proposals(levels)
        objects = memory.masked_fill(~usable[..., None], 0.0)
        objects = self.enc_output_norm(self.enc_output(objects))
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
