"""Deformable attention: its start, padded tokens, what it refuses."""

import pytest
import torch

from projects.clockdistill.modeling.detectors.layers.deformable_attention import (
    DeformableAttention,
)

SHAPES = [(4, 6), (2, 3)]


@pytest.fixture
def attention() -> DeformableAttention:
    return DeformableAttention(embed_dim=16, num_heads=4, num_levels=2, num_points=3)


def inputs():
    query, value = torch.randn(2, 5, 16), torch.randn(2, 30, 16)
    return query, value, torch.rand(2, 5, 2, 2), SHAPES


def test_heads_start_in_their_own_directions(attention):
    offsets = attention.sampling_offsets.bias.view(4, 2, 3, 2)  # head, level, point, xy
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    expected = directions[:, None, None] * torch.tensor([1.0, 2.0, 3.0])[:, None]
    torch.testing.assert_close(offsets, expected.expand(4, 2, 3, 2), atol=1e-6, rtol=0)
    assert not attention.sampling_offsets.weight.any()


def test_padded_tokens_count_as_zero_whatever_they_hold(attention):
    query, value, reference, shapes = inputs()
    padding = torch.zeros(2, 30, dtype=torch.bool)
    padding[1, 20:] = True
    expected = attention(query, value, reference, shapes, padding)
    value[1, 20:] = float("nan")
    torch.testing.assert_close(attention(query, value, reference, shapes, padding), expected)


def test_wrong_shapes_are_named(attention):
    query, value, reference, _ = inputs()
    with pytest.raises(ValueError, match="30 tokens"):
        attention(query, value, reference, [(4, 6), (2, 4)])
    with pytest.raises(ValueError, match="not divisible"):
        DeformableAttention(embed_dim=16, num_heads=3, num_levels=1)
