"""DINO's decoder: anchors give the position queries and are refined layer by layer."""

import torch
from torch import Tensor, nn

from .layers.boxes import inverse_sigmoid
from .layers.feed_forward import MLP
from .layers.position_encoding import reference_features
from .layers.transformer_layers import DeformableDecoderLayer
from .levels import host_shapes


class DINOTransformerDecoder(nn.Module):
    """Decoder layers that refine boxes; anchors give the position queries.

    Source: DINO (arXiv:2203.03605), section 3.5 (look forward twice); DAB-DETR
    (arXiv:2201.12329), section 4.1 (position queries from anchors).

    The detector that owns the heads sets `class_embed` and `bbox_embed`: lists with one head per
    layer and a last one for the encoder's proposals.

    Args:
        embed_dim: width of the queries, divisible by 4.
        num_heads: attention heads.
        feedforward_dim: hidden width of the feed-forward parts.
        attn_dropout: in self-attention and on what the cross-attention adds.
        ffn_dropout: inside and after the feed-forward parts.
        num_layers: layers.
        num_feature_levels: levels of the memory.
        look_forward_twice: a layer's box loss also trains the layer before it.
    """

    class_embed: nn.ModuleList
    bbox_embed: nn.ModuleList

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
        super().__init__()
        if embed_dim % 4:
            raise ValueError(f"embed_dim must be divisible by 4, got {embed_dim}")
        self.embed_dim = embed_dim
        self.num_layers = num_layers
        self.look_forward_twice = look_forward_twice
        self.layers = nn.ModuleList(
            DeformableDecoderLayer(
                embed_dim,
                num_heads,
                feedforward_dim,
                attn_dropout,
                ffn_dropout,
                num_feature_levels,
            )
            for _ in range(num_layers)
        )
        # embed_dim / 2 sine features for each of the four coordinates of an anchor
        self.ref_point_head = MLP(2 * embed_dim, embed_dim, embed_dim, 2)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_pos: None = None,
        *,
        key_padding_mask: Tensor,
        reference_points: Tensor,
        spatial_shapes: Tensor,
        level_start_index: Tensor,
        valid_ratios: Tensor,
        attn_masks: list[Tensor | None] | None = None,
        query_key_padding_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Runs all layers. The names are detrex's: pre-hooks may append queries by them.

        Args:
            query: (B, Q, D), the Q axis being [denoising | matching | appended].
            key: (B, S, D) memory; `value` is read, the deformable attention has no keys.
            value: (B, S, D) memory.
            query_pos: unused; made from the anchors in each layer.
            key_padding_mask: (B, S) bool, True = padding.
            reference_points: (B, Q, 4) anchors, cxcywh in [0, 1] of the unpadded image.
            spatial_shapes: (L, 2) int64, (H, W).
            level_start_index: (L,) int64, for readers of the call only.
            valid_ratios: (B, L, 2) as (w, h).
            attn_masks: [(Q, Q) bool with True = blocked or None, None].
            query_key_padding_mask: (B, Q) bool, True = seen by no query in self-attention.

        Returns:
            inter_states: (E, B, Q, D), normed output of each layer.
            inter_references: (E, B, Q, 4) in [0, 1], the refined anchors after each layer.
        """
        shapes = host_shapes(spatial_shapes)
        scale = torch.cat((valid_ratios, valid_ratios), dim=-1)[:, None]  # (B, 1, L, 4)
        states, references = [], []
        for stage, layer in enumerate(self.layers):
            level_references = reference_points[:, :, None] * scale  # in units of padded levels
            features = reference_features(level_references[:, :, 0], self.embed_dim // 2)
            query = layer(
                query,
                self.ref_point_head(features),
                value,
                level_references,
                shapes,
                key_padding_mask,
                attn_masks,
                query_key_padding_mask,
            )
            refined = (self.bbox_embed[stage](query) + inverse_sigmoid(reference_points)).sigmoid()
            reference_points = refined.detach()
            states.append(self.norm(query))
            references.append(refined if self.look_forward_twice else reference_points)
        return torch.stack(states), torch.stack(references)
