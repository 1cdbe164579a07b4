"""The encoder of the multi-scale detectors."""

from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.levels import host_shapes
from projects.clockdistill.modeling.detectors.multi_scale.layers import DeformableEncoderLayer


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
        post_norm: a further norm at the end (pre-norm designs need it; these layers do not).
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
        self.embed_dim = embed_dim
        self.num_layers = num_layers
        self.layers = nn.ModuleList(
            DeformableEncoderLayer(
                embed_dim,
                num_heads,
                feedforward_dim,
                attn_dropout,
                ffn_dropout,
                num_feature_levels,
            )
            for _ in range(num_layers)
        )
        self.post_norm_layer = nn.LayerNorm(embed_dim) if post_norm else None

    def forward(
        self,
        query: Tensor,
        key: None = None,
        value: None = None,
        *,
        query_pos: Tensor,
        query_key_padding_mask: Tensor,
        spatial_shapes: Tensor,
        reference_points: Tensor,
        level_start_index: Tensor,
        valid_ratios: Tensor,
    ) -> Tensor:
        """Lets the tokens look at each other. The names are detrex's: hooks read them.

        Args:
            query: (B, S, D) tokens.
            key: unused; the tokens attend to themselves.
            value: unused.
            query_pos: (B, S, D).
            query_key_padding_mask: (B, S) bool, True = padding.
            spatial_shapes: (L, 2) int64, (H, W).
            reference_points: (B, S, L, 2) in [0, 1] of each padded level.
            level_start_index: (L,) int64, for readers of the call only.
            valid_ratios: (B, L, 2), for readers of the call only.

        Returns:
            memory (B, S, D). Values at padded tokens mean nothing.
        """
        shapes = host_shapes(spatial_shapes)
        for layer in self.layers:
            query = layer(query, query_pos, query_key_padding_mask, reference_points, shapes)
        return query if self.post_norm_layer is None else self.post_norm_layer(query)
