"""Attention whose content and position have projections of their own."""

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers.attention import (
    QueryBlocks,
    attend,
    split_heads,
)


class ConditionalSelfAttention(nn.Module):
    """Self-attention among queries: projected positions are added to projected contents.

    Source: Conditional DETR (arXiv:2108.06152), whose public code projects separately what DETR's
    self-attention adds before it projects.

    Args:
        embed_dim: width of the queries.
        num_heads: heads; divides `embed_dim`.
        dropout: on the attention weights, in train mode.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        self.query_content_proj = nn.Linear(embed_dim, embed_dim)
        self.query_pos_proj = nn.Linear(embed_dim, embed_dim)
        self.key_content_proj = nn.Linear(embed_dim, embed_dim)
        self.key_pos_proj = nn.Linear(embed_dim, embed_dim)
        self.value_proj = nn.Linear(embed_dim, embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.num_heads = num_heads
        self.dropout = dropout

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        attn_mask: Tensor | QueryBlocks | None = None,
        key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Lets the queries look at each other.

        Args:
            query: (B, Q, D).
            query_pos: (B, Q, D).
            attn_mask: (Q, Q) bool, True = row may not see column; or the queries' blocks.
            key_padding_mask: (B, Q) bool, True = this query is seen by none.

        Returns:
            (B, Q, D).
        """
        q = self.query_content_proj(query) + self.query_pos_proj(query_pos)
        k = self.key_content_proj(query) + self.key_pos_proj(query_pos)
        q, k, v = (split_heads(x, self.num_heads) for x in (q, k, self.value_proj(query)))
        dropout = self.dropout if self.training else 0.0
        return self.out_proj(attend(q, k, v, attn_mask, key_padding_mask, dropout))


class ConditionalCrossAttention(nn.Module):
    """Attention of queries to the memory that weighs content and position separately.

    Source: Conditional DETR (arXiv:2108.06152), section 3.3: content and position are concatenated
    in each head, so that their products add up and no cross terms arise.

    Args:
        embed_dim: width of queries and memory.
        num_heads: heads; divides `embed_dim`.
        dropout: on the attention weights, in train mode.
        adds_positions: also adds positions to the contents, which the first decoder layer does:
            its contents say nothing yet.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        adds_positions: bool = False,
    ):
        super().__init__()
        self.query_content_proj = nn.Linear(embed_dim, embed_dim)
        self.query_pos_proj = nn.Linear(embed_dim, embed_dim) if adds_positions else None
        self.query_pos_sine_proj = nn.Linear(embed_dim, embed_dim)
        self.key_content_proj = nn.Linear(embed_dim, embed_dim)
        self.key_pos_proj = nn.Linear(embed_dim, embed_dim)
        self.value_proj = nn.Linear(embed_dim, embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.num_heads = num_heads
        self.dropout = dropout

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        query_sine: Tensor,
        memory: Tensor,
        memory_pos: Tensor,
        key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Lets the queries look at the memory.

        Args:
            query: (B, Q, D).
            query_pos: (B, Q, D), read only where `adds_positions`.
            query_sine: (B, Q, D) sine features of the queries' centres.
            memory: (B, S, D).
            memory_pos: (B, S, D) sine features of the tokens.
            key_padding_mask: (B, S) bool, True = padding.

        Returns:
            (B, Q, D).
        """
        q, k = self.queries_and_keys(query, query_pos, query_sine, memory, memory_pos)
        v = split_heads(self.value_proj(memory), self.num_heads)
        dropout = self.dropout if self.training else 0.0
        return self.out_proj(attend(q, k, v, None, key_padding_mask, dropout))

    def queries_and_keys(
        self,
        query: Tensor,
        query_pos: Tensor,
        query_sine: Tensor,
        memory: Tensor,
        memory_pos: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Returns what is compared; arguments as in `forward`.

        Returns:
            Projected queries (B, heads, Q, 2 * D / heads) and keys (B, heads, S, 2 * D / heads).
        """
        key_pos = self.key_pos_proj(memory_pos)
        q, k = self.query_content_proj(query), self.key_content_proj(memory)
        if self.query_pos_proj is not None:
            q, k = q + self.query_pos_proj(query_pos), k + key_pos
        q = self._joined(q, self.query_pos_sine_proj(query_sine))
        return q, self._joined(k, key_pos)

    def _joined(self, content: Tensor, position: Tensor) -> Tensor:
        """Concatenates two (B, N, D) in each head: (B, heads, N, 2 * D / heads)."""
        return torch.cat([split_heads(x, self.num_heads) for x in (content, position)], dim=-1)
