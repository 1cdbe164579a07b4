"""Attention with masks that combine without a copy per head, and self-attention by it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from projects.clockdistill.modeling.detectors.layers.plain import use_plain_operators
from projects.clockdistill.modeling.detectors.layers.query_blocks import QueryBlocks


class SelfAttention(nn.Module):
    """Multi-head self-attention: positions enter queries and keys, not values.

    Source: DETR (arXiv:2005.12872), appendix A.3. The parameters are those of
    `nn.MultiheadAttention` (held in `attn`, whose own forward is never called), so that the
    checkpoint keys are detrex's; the computation is `scaled_dot_product_attention`, which takes
    a boolean mask that broadcasts over heads, while `nn.MultiheadAttention` would expand a
    (Q, Q) and a (B, Q) mask into one float mask of (B * heads, Q, Q).

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
        positioned = query if query_pos is None else query + query_pos
        dim = query.shape[-1]
        weight, bias = self.attn.in_proj_weight, self.attn.in_proj_bias
        q, k = F.linear(positioned, weight[: 2 * dim], bias[: 2 * dim]).chunk(2, dim=-1)
        v = F.linear(query, weight[2 * dim :], bias[2 * dim :])
        q, k, v = (split_heads(x, self.attn.num_heads) for x in (q, k, v))
        dropout = self.attn.dropout if self.training else 0.0
        return self.attn.out_proj(attend(q, k, v, attn_mask, key_padding_mask, dropout))


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, heads * c) as (B, heads, N, c), without a copy."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | QueryBlocks | None,
    key_padding_mask: Tensor | None,
    dropout: float,
) -> Tensor:
    """Scaled dot-product attention of all heads at once; 0 for a query that may see nothing.

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
        return _attend_by_blocks(query, key, value, attn_mask, dropout)
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


def _attend_by_blocks(
    query: Tensor, key: Tensor, value: Tensor, blocks: QueryBlocks, dropout: float
) -> Tensor:
    """`attend`, block by block."""
    parts = zip(
        *(x.split(blocks.sizes, dim=2) for x in (query, key, value)),
        blocks.masks,
        blocks.paddings,
        strict=True,
    )
    return torch.cat([attend(*part, dropout) for part in parts if part[0].shape[2]], dim=1)


def _visible(attn_mask: Tensor | None, key_padding_mask: Tensor | None) -> Tensor | None:
    """The two masks as one of what may be seen: (1 or B, 1, 1 or Q, N) bool, or None for all."""
    masks = []
    if attn_mask is not None:
        masks.append(~attn_mask[None, None])
    if key_padding_mask is not None:
        masks.append(~key_padding_mask[:, None, None])
    if len(masks) == 2:
        return torch.logical_and(*masks)
    return masks[0] if masks else None
