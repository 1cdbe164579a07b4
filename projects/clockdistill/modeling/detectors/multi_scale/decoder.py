"""The decoder of the multi-scale detectors: Deformable-DETR's, and the base of DINO's."""

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers.attention import QueryBlocks, SelfAttention
from projects.clockdistill.modeling.detectors.layers.boxes import boxes_around
from projects.clockdistill.modeling.detectors.layers.deformable_attention import DeformableAttention
from projects.clockdistill.modeling.detectors.layers.feed_forward import FFN


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

    Args:
        embed_dim: width of the queries.
        num_heads: attention heads.
        feedforward_dim: hidden width of the feed-forward parts.
        attn_dropout: in self-attention and on what the cross-attention adds.
        ffn_dropout: inside and after the feed-forward parts.
        num_layers: layers.
        num_feature_levels: levels of the memory.
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
