"""One encoder and one decoder layer of the multi-scale deformable detectors.

`attentions`, `ffns` and `norms` are lists because the checkpoint keys count within each kind.
"""

from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers.attention import SelfAttention
from projects.clockdistill.modeling.detectors.layers.deformable_attention import DeformableAttention
from projects.clockdistill.modeling.detectors.layers.feed_forward import FFN
from projects.clockdistill.modeling.detectors.layers.pieces import piece_by_piece
from projects.clockdistill.modeling.detectors.layers.query_blocks import QueryBlocks


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
        shapes: list[tuple[int, int]],
    ) -> Tensor:
        """Maps tokens (B, S, D) to tokens (B, S, D); arguments as in the attention."""
        attended = self.attentions[0](
            query + query_pos, query, reference_points, shapes, padding_mask
        )
        return piece_by_piece(self._feed_forward, query, attended)

    def _feed_forward(self, query: Tensor, attended: Tensor) -> Tensor:
        """What follows the attention, token by token: (..., D) each."""
        query = self.norms[0](query + self.dropout(attended))
        return self.norms[1](query + self.ffns[0](query))


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
        shapes: list[tuple[int, int]],
        memory_padding_mask: Tensor | None = None,
        attn_masks: list[Tensor | QueryBlocks | None] | None = None,
        query_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Maps queries (B, Q, D) to queries (B, Q, D).

        Args:
            query: (B, Q, D).
            query_pos: (B, Q, D).
            memory: (B, S, D).
            reference_points: (B, Q, L, 2 or 4), see `DeformableAttention`.
            shapes: (H, W) of each level.
            memory_padding_mask: (B, S) bool, True = padding.
            attn_masks: the first, (Q, Q) bool with True = blocked or the queries' blocks, is for
                self-attention; the second belongs to the deformable attention, which has none.
            query_padding_mask: (B, Q) bool, True = seen by no other query.
        """
        self_mask = attn_masks[0] if attn_masks is not None else None
        # No dropout on this residual: self-attention drops attention weights instead.
        query = self.norms[0](
            query + self.attentions[0](query, query_pos, self_mask, query_padding_mask)
        )
        attended = self.attentions[1](
            query + query_pos, memory, reference_points, shapes, memory_padding_mask
        )
        query = self.norms[1](query + self.dropout(attended))
        return self.norms[2](query + self.ffns[0](query))
