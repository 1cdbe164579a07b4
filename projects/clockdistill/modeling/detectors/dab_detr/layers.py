"""One encoder and one decoder layer of the detectors whose attention is dense.

`attentions`, `ffns` and `norms` are lists because the checkpoint keys count within each kind.
"""

from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.dab_detr.attention import (
    ConditionalCrossAttention,
    ConditionalSelfAttention,
)
from projects.clockdistill.modeling.detectors.layers.attention import SelfAttention
from projects.clockdistill.modeling.detectors.layers.feed_forward import FFN
from projects.clockdistill.modeling.detectors.layers.query_blocks import QueryBlocks


class DenseEncoderLayer(nn.Module):
    """Self-attention of the tokens, then a feed-forward part; norms after each residual.

    Source: DETR (arXiv:2005.12872), appendix A.3.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        feedforward_dim: int,
        attn_dropout: float,
        ffn_dropout: float,
        activation: nn.Module,
    ):
        super().__init__()
        self.attentions = nn.ModuleList([SelfAttention(embed_dim, num_heads, attn_dropout)])
        self.ffns = nn.ModuleList([FFN(embed_dim, feedforward_dim, ffn_dropout, activation)])
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dim) for _ in range(2))

    def forward(self, query: Tensor, query_pos: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Maps tokens (B, S, D) to tokens (B, S, D); `padding_mask` (B, S), True = padding."""
        attended = self.attentions[0](query, query_pos, key_padding_mask=padding_mask)
        query = self.norms[0](query + attended)
        return self.norms[1](query + self.ffns[0](query))


class ConditionalDecoderLayer(nn.Module):
    """Self-attention of the queries, attention to the memory, feed-forward part.

    Source: Conditional DETR (arXiv:2108.06152), section 3; norms after each residual.

    Args:
        embed_dim: width of queries and memory.
        num_heads: attention heads.
        feedforward_dim: hidden width of the feed-forward part.
        attn_dropout: on the attention weights.
        ffn_dropout: inside and after the feed-forward part.
        activation: of the feed-forward part; copied.
        is_first: see `ConditionalCrossAttention.adds_positions`.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        feedforward_dim: int,
        attn_dropout: float,
        ffn_dropout: float,
        activation: nn.Module,
        is_first: bool,
    ):
        super().__init__()
        self.attentions = nn.ModuleList(
            [
                ConditionalSelfAttention(embed_dim, num_heads, attn_dropout),
                ConditionalCrossAttention(embed_dim, num_heads, attn_dropout, is_first),
            ]
        )
        self.ffns = nn.ModuleList([FFN(embed_dim, feedforward_dim, ffn_dropout, activation)])
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dim) for _ in range(3))

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        query_sine: Tensor,
        memory: Tensor,
        memory_pos: Tensor,
        memory_padding_mask: Tensor | None = None,
        attn_masks: list[Tensor | QueryBlocks | None] | None = None,
        query_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Maps queries (B, Q, D) to queries (B, Q, D).

        Args:
            query: (B, Q, D).
            query_pos: (B, Q, D) for the self-attention and the first layer's contents.
            query_sine: (B, Q, D) for the attention to the memory.
            memory: (B, S, D).
            memory_pos: (B, S, D).
            memory_padding_mask: (B, S) bool, True = padding.
            attn_masks: the first, (Q, Q) bool with True = blocked or the queries' blocks, is for
                self-attention; what a query may see of the memory only `memory_padding_mask` says.
            query_padding_mask: (B, Q) bool, True = seen by no other query.
        """
        self_mask = attn_masks[0] if attn_masks is not None else None
        query = self.norms[0](
            query + self.attentions[0](query, query_pos, self_mask, query_padding_mask)
        )
        attended = self.attentions[1](
            query, query_pos, query_sine, memory, memory_pos, memory_padding_mask
        )
        query = self.norms[1](query + attended)
        return self.norms[2](query + self.ffns[0](query))
