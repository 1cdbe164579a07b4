"""The transformer that the multi-scale detectors share: encoder, decoder, and how they are called.

B images, L levels, S tokens over all levels, D channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers.attention import QueryBlocks, SelfAttention
from projects.clockdistill.modeling.detectors.layers.boxes import boxes_around
from projects.clockdistill.modeling.detectors.layers.deformable_attention import DeformableAttention
from projects.clockdistill.modeling.detectors.layers.feed_forward import FFN, in_chunks
from projects.clockdistill.modeling.detectors.multi_scale.tokens import (
    TokenLevels,
    flatten_levels,
    token_proposals,
)
from projects.clockdistill.modeling.detectors.predictions import Predictions


class DeformableEncoderLayer(nn.Module):
    """Deformable attention of the tokens to the memory itself, then a feed-forward part.

    Source: Deformable DETR (arXiv:2010.04159), section 4.2; norms after each residual.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        feedforward_dim: int,
        attn_dropout: float,
        ffn_dropout: float,
        num_feature_levels: int,
    ):
        super().__init__()
        # Lists, because the checkpoint keys count within each kind.
        self.attentions = nn.ModuleList(
            [DeformableAttention(embed_dim, num_heads, num_feature_levels)]
        )
        self.ffns = nn.ModuleList([FFN(embed_dim, feedforward_dim, ffn_dropout)])
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dim) for _ in range(2))
        self.dropout = nn.Dropout(attn_dropout)

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        padding_mask: Tensor,
        reference_points: Tensor,
        spatial_shapes: list[tuple[int, int]],
    ) -> Tensor:
        """Maps tokens (B, S, D) to tokens (B, S, D); arguments as in `DeformableAttention`."""
        attended = self.attentions[0](
            query + query_pos, query, reference_points, spatial_shapes, padding_mask
        )
        return in_chunks(self._feed_forward, query, attended)

    def _feed_forward(self, query: Tensor, attended: Tensor) -> Tensor:
        """Does what follows the attention, for each token by itself: (..., D) each."""
        query = self.norms[0](query + self.dropout(attended))
        return self.norms[1](query + self.ffns[0](query))


class DeformableTransformerEncoder(nn.Module):
    """Deformable encoder layers in a row.

    Source: Deformable DETR (arXiv:2010.04159), section 4.2.

    Args:
        embed_dim: width of the tokens.
        num_heads: attention heads.
        feedforward_dim: hidden width of the feed-forward parts.
        attn_dropout: on what each attention adds.
        ffn_dropout: inside and after the feed-forward parts.
        num_layers: layers.
        num_feature_levels: levels of the memory.
        post_norm: detrex's option of a further norm at the end; only False is supported.

    Raises:
        ValueError: if `post_norm` is True.
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
        post_norm: bool = False,
    ):
        super().__init__()
        if post_norm:
            raise ValueError("encoder.post_norm=True is not supported. Fix: leave it at False")
        self.embed_dim = embed_dim
        self.layers = nn.ModuleList(
            DeformableEncoderLayer(
                embed_dim, num_heads, feedforward_dim, attn_dropout, ffn_dropout, num_feature_levels
            )
            for _ in range(num_layers)
        )

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        query_key_padding_mask: Tensor,
        reference_points: Tensor,
        spatial_shapes: list[tuple[int, int]],
    ) -> Tensor:
        """Lets the tokens look at each other.

        Args:
            query: (B, S, D) tokens.
            query_pos: (B, S, D).
            query_key_padding_mask: (B, S) bool, True = padding.
            reference_points: (B, S, L, 2) in [0, 1] of each padded level.
            spatial_shapes: (H, W) of each level, on the host.

        Returns:
            memory (B, S, D). Values at padded tokens mean nothing.
        """
        for layer in self.layers:
            query = layer(
                query, query_pos, query_key_padding_mask, reference_points, spatial_shapes
            )
        return query


class DeformableDecoderLayer(nn.Module):
    """Self-attention of the queries, deformable attention to the memory, feed-forward part.

    Source: Deformable DETR (arXiv:2010.04159), section 4.2; norms after each residual.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        feedforward_dim: int,
        attn_dropout: float,
        ffn_dropout: float,
        num_feature_levels: int,
    ):
        super().__init__()
        # Lists, because the checkpoint keys count within each kind.
        self.attentions = nn.ModuleList(
            [
                SelfAttention(embed_dim, num_heads, attn_dropout),
                DeformableAttention(embed_dim, num_heads, num_feature_levels),
            ]
        )
        self.ffns = nn.ModuleList([FFN(embed_dim, feedforward_dim, ffn_dropout)])
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dim) for _ in range(3))
        self.dropout = nn.Dropout(attn_dropout)

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        memory: Tensor,
        reference_points: Tensor,
        spatial_shapes: list[tuple[int, int]],
        memory_padding_mask: Tensor | None = None,
        attn_mask: Tensor | QueryBlocks | None = None,
        query_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Maps queries (B, Q, D) to queries (B, Q, D).

        Args:
            query: (B, Q, D).
            query_pos: (B, Q, D).
            memory: (B, S, D).
            reference_points: (B, Q, L, 2 or 4) in [0, 1] of each padded level.
            spatial_shapes: (H, W) of each level, on the host.
            memory_padding_mask: (B, S) bool, True = padding.
            attn_mask: of the self-attention: (Q, Q) bool, True = blocked, or the queries' blocks.
            query_padding_mask: (B, Q) bool, True = seen by no other query.
        """
        # No dropout on this residual: self-attention drops attention weights instead.
        query = self.norms[0](
            query + self.attentions[0](query, query_pos, attn_mask, query_padding_mask)
        )
        attended = self.attentions[1](
            query + query_pos, memory, reference_points, spatial_shapes, memory_padding_mask
        )
        query = self.norms[1](query + self.dropout(attended))
        return self.norms[2](query + self.ffns[0](query))


class DeformableTransformerDecoder(nn.Module):
    """Decoder layers that look at the memory around reference points.

    Source: Deformable DETR (arXiv:2010.04159), section 4.2; appendix A.4 (box refinement).

    The detector that owns the heads may set `class_embed` and `bbox_embed`: lists with one head per
    layer and, for encoders that propose boxes, a last one. With `bbox_embed` each layer's boxes are
    the next layer's reference points; without, all layers look from the same points.

    Arguments that are not listed are those of `DeformableTransformerEncoder`.

    Args:
        attn_dropout: in self-attention and on what the cross-attention adds.
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
    ):
        super().__init__()
        self.embed_dim = embed_dim
        self.num_layers = num_layers
        self.layers = nn.ModuleList(
            DeformableDecoderLayer(
                embed_dim, num_heads, feedforward_dim, attn_dropout, ffn_dropout, num_feature_levels
            )
            for _ in range(num_layers)
        )
        self.class_embed: nn.ModuleList | None = None
        self.bbox_embed: nn.ModuleList | None = None
        # A family may set a norm on what each layer gives out, and let a layer's box loss also
        # train the layer before it.
        self.norm: nn.Module | None = None
        self.look_forward_twice = False

    def position_queries(self, query_pos: Tensor | None, level_references: Tensor) -> Tensor:
        """Returns what is added to the queries of one layer as their position (B, Q, D).

        Args:
            query_pos: as the decoder received it.
            level_references: (B, Q, L, 2 or 4) of this layer, in units of the padded levels.
        """
        return query_pos

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        query_pos: Tensor | None = None,
        *,
        key_padding_mask: Tensor,
        reference_points: Tensor,
        spatial_shapes: list[tuple[int, int]],
        valid_ratios: Tensor,
        attn_masks: list[Tensor | QueryBlocks | None] | None = None,
        query_key_padding_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Runs all layers.

        Names and layouts are detrex's, and calls are by keyword: the same forward hooks append
        queries to our decoders and to detrex's.

        Args:
            query: (B, Q, D), the Q axis being [denoising | matching | appended].
            value: (B, S, D) memory.
            query_pos: (B, Q, D); DINO makes its own from the reference points.
            key_padding_mask: (B, S) bool, True = padding.
            reference_points: (B, Q, 2) centres or (B, Q, 4) cxcywh, in [0, 1] of the unpadded
                image.
            spatial_shapes: (H, W) of each level, on the host.
            valid_ratios: (B, L, 2) as (w, h).
            attn_masks: one for each attention of a layer, of which the second has none: [(Q, Q)
                bool with True = blocked, or the queries' blocks, or None; None].
            query_key_padding_mask: (B, Q) bool, True = seen by no query in self-attention.

        Returns:
            inter_states: (E, B, Q, D), output of each layer.
            inter_references: (E, B, Q, 2 or 4) in [0, 1], the reference points after each layer;
                with `bbox_embed` they are boxes.
        """
        attn_mask = attn_masks[0] if attn_masks is not None else None
        states, references = [], []
        for number, layer in enumerate(self.layers):
            # (w, h) for a point, twice for a box: (B, 1, L, 2 or 4)
            scale = valid_ratios.repeat(1, 1, reference_points.shape[-1] // 2)[:, None]
            level_references = reference_points[:, :, None] * scale  # in units of padded levels
            query = layer(
                query,
                self.position_queries(query_pos, level_references),
                value,
                level_references,
                spatial_shapes,
                key_padding_mask,
                attn_mask,
                query_key_padding_mask,
            )
            states.append(query if self.norm is None else self.norm(query))
            if self.bbox_embed is None:
                references.append(reference_points)  # trained by all layers
                continue
            refined = boxes_around(reference_points, self.bbox_embed[number](query))
            reference_points = refined.detach()
            references.append(refined if self.look_forward_twice else reference_points)
        return torch.stack(states), torch.stack(references)


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
