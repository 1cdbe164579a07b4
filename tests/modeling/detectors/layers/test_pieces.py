"""Pieces of tokens: the same result, made of several calls only where no gradient is wanted."""

import pytest
import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers import pieces
from projects.clockdistill.modeling.detectors.layers.pieces import piece_by_piece
from projects.clockdistill.modeling.detectors.layers.plain import plain_operators


class Counting(nn.Module):
    """A token-wise function of two rows of tokens that counts the tokens of each call."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.tokens: list[int] = []

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        self.tokens.append(first.shape[:-1].numel())
        return self.linear(first) * second


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 12)  # three tokens of four channels


def tokens(count: int) -> tuple[Tensor, Tensor]:
    first, second = torch.randn(2, 2, count, 4)
    return first, second


def test_pieces_make_the_whole(small_pieces):
    function, (first, second) = Counting(), tokens(5)
    expected = function.linear(first) * second
    with torch.no_grad():
        torch.testing.assert_close(piece_by_piece(function, first, second), expected)
        assert function.tokens == [3, 3, 3, 1]  # of both images


def test_any_layout_is_taken(small_pieces):
    function, (first, second) = Counting(), tokens(5)
    strided = first.transpose(0, 1).contiguous().transpose(0, 1)
    with torch.no_grad():
        expected = function.linear(first) * second
        torch.testing.assert_close(piece_by_piece(function, strided, second), expected)


def test_a_token_wider_than_a_piece_is_a_piece(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 3)
    function = Counting()
    with torch.no_grad():
        piece_by_piece(function, *tokens(2))
    assert function.tokens == [1, 1, 1, 1]


def test_with_gradients_and_for_few_tokens_it_is_one_call(small_pieces):
    function = Counting()
    piece_by_piece(function, *tokens(5))
    with torch.no_grad():
        piece_by_piece(function, *(x[:1, :3] for x in tokens(5)))
    assert function.tokens == [10, 3]


def test_plain_operators_are_one_call(small_pieces):
    function = Counting()
    with torch.no_grad(), plain_operators():
        piece_by_piece(function, *tokens(5))
    assert function.tokens == [10]
