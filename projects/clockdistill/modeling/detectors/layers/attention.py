"""Attention whose masks combine without a copy per head, and self-attention built on it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from projects.clockdistill.modeling.detectors.layers.plain import use_plain_operators


@dataclass(frozen=True)
class QueryBlocks:
    """Blocks of queries that do not see each other, in place of a mask over all queries.

    Attention computes the blocks on the diagonal alone: three blocks of 900 queries cost a third of
    2,700 queries.

    Attributes:
        sizes: queries of each block, in order; their sum is Q.
        masks: for each block its own (n, n) bool mask, True = row may not see column, or None.
        paddings: for each block (B, n) bool, True = this query is seen by none, or None.
    """

    sizes: tuple[int, ...]
    masks: tuple[Tensor | None, ...]
    paddings: tuple[Tensor | None, ...]

    def __post_init__(self):
        assert len(self.sizes) == len(self.masks) == len(self.paddings)

    def dense_mask(self, device: torch.device) -> Tensor:
        """Returns `masks` as one (Q, Q) bool mask, True = blocked, for other attention modules."""
        total = sum(self.sizes)
        mask = torch.ones(total, total, dtype=torch.bool, device=device)
        start = 0
        for size, own in zip(self.sizes, self.masks, strict=True):
            block = slice(start, start + size)
            mask[block, block] = False if own is None else own
            start += size
        return mask

    def dense_padding(self) -> Tensor | None:
        """Returns `paddings` as one (B, Q) bool mask, True = seen by none; or None."""
        known = [padding for padding in self.paddings if padding is not None]
        if not known:
            return None
        parts = [
            known[0].new_zeros(known[0].shape[0], size) if padding is None else padding
            for size, padding in zip(self.sizes, self.paddings, strict=True)
        ]
        return torch.cat(parts, dim=1)


class SelfAttention(nn.Module):
    """Multi-head self-attention: positions enter queries and keys, not values.

    Source: DETR (arXiv:2005.12872), appendix A.3. The parameters are those of
    `nn.MultiheadAttention` (held in `attn`, whose own forward is never called), so that the
    checkpoint keys are detrex's. `scaled_dot_product_attention` takes a boolean mask that
    broadcasts over heads, while `nn.MultiheadAttention` would expand a (Q, Q) and a (B, Q) mask
    into one float mask of (B * heads, Q, Q).

    Args:
        embed_dim: width of the queries.
        num_heads: heads; divides `embed_dim`.
        dropout: on the attention weights, in train mode.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        self.attn = nn.MultiheadAttention(embed_dim, num_heads, dropout, batch_first=True)

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor | None = None,
        attn_mask: Tensor | QueryBlocks | None = None,
        key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Lets the queries look at each other.

        Args:
            query: (B, Q, D).
            query_pos: (B, Q, D), added to queries and keys.
            attn_mask: (Q, Q) bool, True = row may not see column; or the queries' blocks.
            key_padding_mask: (B, Q) bool, True = this query is seen by none.

        Returns:
            (B, Q, D); the output projection's bias alone for a row that may see nothing.
        """
        q, k = self.queries_and_keys(query, query_pos)
        dim = query.shape[-1]
        v = F.linear(query, self.attn.in_proj_weight[2 * dim :], self.attn.in_proj_bias[2 * dim :])
        v = split_heads(v, self.attn.num_heads)
        dropout = self.attn.dropout if self.training else 0.0
        return self.attn.out_proj(attend(q, k, v, attn_mask, key_padding_mask, dropout))

    def queries_and_keys(self, query: Tensor, query_pos: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns projected queries and keys (B, heads, Q, c); arguments as in `forward`."""
        positioned = query if query_pos is None else query + query_pos
        part = slice(2 * query.shape[-1])
        weight, bias = self.attn.in_proj_weight[part], self.attn.in_proj_bias[part]
        q, k = F.linear(positioned, weight, bias).chunk(2, dim=-1)
        return split_heads(q, self.attn.num_heads), split_heads(k, self.attn.num_heads)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Returns (B, N, heads * c) as (B, heads, N, c), without a copy."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | QueryBlocks | None,
    key_padding_mask: Tensor | None,
    dropout: float,
) -> Tensor:
    """Computes scaled dot-product attention; 0 for a query that may see nothing.

    Args:
        query: (B, heads, Q, c).
        key: (B, heads, N, c).
        value: (B, heads, N, d), d at most c.
        attn_mask: (Q, N) bool, True = row may not see column; or blocks, where Q and N are the same
            queries.
        key_padding_mask: (B, N) bool, True = seen by no query.
        dropout: part of the attention weights to drop.

    Returns:
        (B, Q, heads * d).
    """
    if isinstance(attn_mask, QueryBlocks):
        assert key_padding_mask is None, "blocks have paddings of their own"
        blocks = zip(
            *(x.split(attn_mask.sizes, dim=2) for x in (query, key, value)),
            attn_mask.masks,
            attn_mask.paddings,
            strict=True,
        )
        return torch.cat([attend(*block, dropout) for block in blocks if block[0].shape[2]], dim=1)
    visible = _visible(attn_mask, key_padding_mask)
    if visible is not None:
        # A softmax over nothing is 0/0: such rows attend to everything and are zeroed after.
        blind = ~visible.any(dim=-1, keepdim=True)
        visible = visible | blind
    width = value.shape[-1]
    if width < key.shape[-1] and not use_plain_operators():
        # Fused kernels want values as wide as keys; on a CPU others take three times as long.
        value = F.pad(value, (0, key.shape[-1] - width))
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=visible, dropout_p=dropout)
    mixed = mixed[..., :width]
    if visible is not None:
        mixed = mixed.masked_fill(blind, 0.0)
    return mixed.transpose(1, 2).flatten(-2)


def _visible(attn_mask: Tensor | None, key_padding_mask: Tensor | None) -> Tensor | None:
    """Joins both masks: (1 or B, 1, 1 or Q, N) bool, True = may be seen; None = all may."""
    if attn_mask is None and key_padding_mask is None:
        return None
    if key_padding_mask is None:
        return ~attn_mask[None, None]
    visible = ~key_padding_mask[:, None, None]
    return visible if attn_mask is None else visible & ~attn_mask
