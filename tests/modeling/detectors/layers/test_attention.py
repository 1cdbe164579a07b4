"""Self-attention: equal to torch's module, masks, rows that may see nothing."""

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from projects.clockdistill.modeling.detectors.layers.attention import (
    QueryBlocks,
    SelfAttention,
    attend,
)
from projects.clockdistill.modeling.detectors.layers.plain import plain_operators


@pytest.fixture
def attention() -> SelfAttention:
    return SelfAttention(embed_dim=16, num_heads=4)


def masks() -> dict[str, torch.Tensor | None]:
    """Over 6 queries: two isolated groups, and the last query of the second image padded."""
    group = torch.tensor([0, 0, 1, 1, 1, 1])
    padding = torch.zeros(2, 6, dtype=torch.bool)
    padding[1, 5] = True
    return {"attn_mask": group[:, None] != group, "key_padding_mask": padding}


@pytest.mark.parametrize("used", [(), ("attn_mask",), ("key_padding_mask",), tuple(masks())])
def test_equals_the_module_whose_parameters_it_holds(attention, used):
    query, position = torch.randn(2, 2, 6, 16)
    chosen = {name: masks()[name] for name in used}
    expected, _ = attention.attn(query + position, query + position, query, **chosen)
    torch.testing.assert_close(attention(query, position, **chosen), expected)


def test_dropout_works_in_train_mode_only():
    attention = SelfAttention(16, 4, dropout=0.5)
    query = torch.randn(1, 6, 16)
    assert not torch.equal(attention(query), attention(query))
    attention.eval()
    assert torch.equal(attention(query), attention(query))


@pytest.mark.parametrize("by", ["attn_mask", "key_padding_mask"])
def test_a_query_that_may_see_nothing_gives_finite_values_and_gradients(attention, by):
    query = torch.randn(2, 6, 16, requires_grad=True)
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[2] = True
    padding = torch.zeros(2, 6, dtype=torch.bool)
    padding[1] = True
    output = attention(query, **{by: mask if by == "attn_mask" else padding})
    output.square().sum().backward()
    blind = output[:, 2] if by == "attn_mask" else output[1]
    torch.testing.assert_close(blind, attention.attn.out_proj.bias.expand_as(blind))
    for tensor in (output, query.grad, *(p.grad for p in attention.parameters())):
        assert tensor.isfinite().all()


def test_a_blind_row_learns_nothing_from_the_others(attention):
    query = torch.randn(1, 4, 16, requires_grad=True)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[0] = True
    attention(query, attn_mask=mask)[0, 0].sum().backward()
    assert not query.grad.any()


@pytest.mark.parametrize("width", [4, 8])
@pytest.mark.parametrize("plain", [False, True])
def test_values_may_be_narrower_than_keys(width, plain):
    query, key = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 6, 8)
    value = torch.randn(2, 3, 6, width)
    padding = torch.zeros(2, 6, dtype=torch.bool)
    padding[1, 4:] = True
    logits = (query @ key.mT / 8**0.5).masked_fill(padding[:, None, None], float("-inf"))
    expected = (logits.softmax(-1) @ value).transpose(1, 2).flatten(-2)
    with plain_operators() if plain else nullcontext():
        found = attend(query, key, value, None, padding, 0.0)
    assert found.shape == (2, 5, 3 * width)
    torch.testing.assert_close(found, expected)


def test_blocks_as_one_mask():
    own_mask = torch.tensor([[False, True], [False, False]])
    padding = torch.tensor([[True], [False]])
    blocks = QueryBlocks((2, 1, 2), (own_mask, None, None), (None, padding, None))
    mask = blocks.dense_mask(torch.device("cpu"))
    expected = [".xxxx", "..xxx", "xx.xx", "xxx..", "xxx.."]  # x = blocked
    assert [["x" if cell else "." for cell in row] for row in mask.tolist()] == [
        list(row) for row in expected
    ]
    expected = [[False, False, hidden, False, False] for hidden in (True, False)]
    assert blocks.dense_padding().tolist() == expected
    assert QueryBlocks((2,), (None,), (None,)).dense_padding() is None


@given(
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=4).filter(any),
    masked=st.booleans(),
    padded=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_blocks_give_what_their_mask_gives(sizes, masked, padded, seed):
    torch.manual_seed(seed)
    attention = SelfAttention(embed_dim=16, num_heads=4)
    total = sum(sizes)
    own_mask = torch.rand(sizes[0], sizes[0]) < 0.5 if masked else None
    paddings = [torch.rand(2, size) < 0.3 if padded and size % 2 else None for size in sizes]
    blocks = QueryBlocks(tuple(sizes), (own_mask, *[None] * (len(sizes) - 1)), tuple(paddings))
    query = torch.randn(2, total, 16, requires_grad=True)
    found = attention(query, attn_mask=blocks)
    expected = attention(
        query,
        attn_mask=blocks.dense_mask(query.device),
        key_padding_mask=blocks.dense_padding(),
    )
    torch.testing.assert_close(found, expected)
    direction = torch.randn_like(found)
    gradients = [
        torch.autograd.grad(output, [query, *attention.parameters()], direction)
        for output in (found, expected)
    ]
    torch.testing.assert_close(*gradients)
