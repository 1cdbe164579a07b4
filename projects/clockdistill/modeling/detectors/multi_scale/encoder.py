"""The encoder of the multi-scale detectors."""

from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers.deformable_attention import DeformableAttention
from projects.clockdistill.modeling.detectors.layers.feed_forward import FFN, in_chunks


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
        self.num_layers = num_layers
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
