"""Attention with separate projections of content and position: formula, first layer, dropout."""

import pytest
import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.dab_detr.attention import (
    ConditionalCrossAttention,
    ConditionalSelfAttention,
)

DIM, HEADS, QUERIES, TOKENS = 16, 4, 5, 7


def by_hand(q: Tensor, k: Tensor, v: Tensor, out_proj: nn.Linear) -> Tensor:
    """Attention head by head: softmax(q k / sqrt(width of q)) v; each (B, heads, N, width)."""
    heads = [
        (q[:, h] @ k[:, h].mT / q.shape[-1] ** 0.5).softmax(-1) @ v[:, h] for h in range(HEADS)
    ]
    return out_proj(torch.cat(heads, dim=-1))


def heads(x: Tensor) -> Tensor:
    """(B, N, D) as (B, heads, N, D / heads): each head owns neighbouring channels."""
    return torch.stack(x.split(DIM // HEADS, dim=-1), dim=1)


def test_self_attention_adds_projected_positions_to_queries_and_keys():
    attention = ConditionalSelfAttention(DIM, HEADS)
    content, position = torch.randn(2, 2, QUERIES, DIM)
    q = attention.query_content_proj(content) + attention.query_pos_proj(position)
    k = attention.key_content_proj(content) + attention.key_pos_proj(position)
    v = attention.value_proj(content)
    expected = by_hand(heads(q), heads(k), heads(v), attention.out_proj)
    torch.testing.assert_close(attention(content, position), expected)


@pytest.mark.parametrize("is_first", [False, True])
def test_cross_attention_concatenates_positions_and_contents_in_each_head(is_first):
    attention = ConditionalCrossAttention(DIM, HEADS, adds_positions=is_first)
    query, query_pos, sine = torch.randn(3, 2, QUERIES, DIM)
    memory, memory_pos = torch.randn(2, 2, TOKENS, DIM)
    q, k = attention.query_content_proj(query), attention.key_content_proj(memory)
    key_pos = attention.key_pos_proj(memory_pos)
    if is_first:
        q, k = q + attention.query_pos_proj(query_pos), k + key_pos
    q = torch.cat((heads(q), heads(attention.query_pos_sine_proj(sine))), dim=-1)
    k = torch.cat((heads(k), heads(key_pos)), dim=-1)
    expected = by_hand(q, k, heads(attention.value_proj(memory)), attention.out_proj)
    found = attention(query, query_pos, sine, memory, memory_pos)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", [ConditionalSelfAttention, ConditionalCrossAttention])
def test_dropout_works_in_train_mode_only(kind):
    attention = kind(DIM, HEADS, dropout=0.5)
    count = 2 if kind is ConditionalSelfAttention else 5
    inputs = torch.randn(count, 1, QUERIES, DIM).unbind()
    assert not torch.equal(attention(*inputs), attention(*inputs))
    attention.eval()
    assert torch.equal(attention(*inputs), attention(*inputs))
