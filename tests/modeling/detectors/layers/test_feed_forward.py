"""Feed-forward parts: widths of the MLP, activations with two names, chunks of tokens."""

import pytest
import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers import feed_forward
from projects.clockdistill.modeling.detectors.layers.feed_forward import FFN, MLP, in_chunks
from projects.clockdistill.modeling.detectors.layers.plain import plain_operators


def test_mlp_has_relu_between_its_layers_only():
    mlp = MLP(3, 5, 2, num_layers=3)
    assert [tuple(layer.weight.shape) for layer in mlp.layers] == [(5, 3), (5, 5), (2, 5)]
    first, second, last = mlp.layers
    x = torch.randn(4, 3)
    expected = last(second(first(x).clamp(min=0)).clamp(min=0))
    torch.testing.assert_close(mlp(x), expected)


def test_an_activation_with_parameters_is_copied_and_has_two_keys():
    given = nn.PReLU(init=0.5)
    first, second = FFN(4, 8, 0.0, given), FFN(4, 8, 0.0, given)
    assert first.activation is first.layers[0][1] and first.activation is not given
    assert first.activation.weight is not second.activation.weight
    assert {"activation.weight", "layers.0.1.weight"} < first.state_dict().keys()
    x = torch.randn(3, 4)
    hidden = first.layers[0][0](x)
    expected = first.layers[1](hidden.clamp(min=0) + 0.5 * hidden.clamp(max=0))
    torch.testing.assert_close(first(x), expected)


def test_relu_is_the_default_and_has_no_key():
    ffn = FFN(4, 8, 0.0)
    assert ffn.state_dict().keys() == {
        f"layers.{name}.{kind}" for name in ("0.0", "1") for kind in ("weight", "bias")
    }
    x = torch.randn(3, 4)
    torch.testing.assert_close(ffn(x), ffn.layers[1](ffn.layers[0][0](x).clamp(min=0)))


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (2, 0, 4)])
def test_any_number_of_dimensions_is_taken(shape):
    ffn, x = FFN(4, 8, 0.0), torch.randn(shape)
    torch.testing.assert_close(ffn(x), ffn.layers[1](ffn.layers[0][0](x).clamp(min=0)))


def test_no_activation_in_place_on_a_view():
    with torch.profiler.profile() as profile:
        FFN(4, 8, 0.0)(torch.randn(2, 3, 4)).sum().backward()
    assert not [event.key for event in profile.key_averages() if "CopySlices" in event.key]


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
def small_chunks(monkeypatch):
    monkeypatch.setattr(feed_forward, "CHUNK", 12)  # three tokens of four channels


def tokens(count: int) -> tuple[Tensor, Tensor]:
    first, second = torch.randn(2, 2, count, 4)
    return first, second


def test_chunks_give_the_result_of_one_call(small_chunks):
    function, (first, second) = Counting(), tokens(5)
    strided = first.transpose(0, 1).contiguous().transpose(0, 1)
    expected = function.linear(first) * second
    with torch.no_grad():
        torch.testing.assert_close(in_chunks(function, first, second), expected)
        torch.testing.assert_close(in_chunks(function, strided, second), expected)
    assert function.tokens == 2 * [3, 3, 3, 1]  # of both images


def test_with_gradients_and_for_few_tokens_it_is_one_call(small_chunks):
    function = Counting()
    in_chunks(function, *tokens(5))
    with torch.no_grad():
        in_chunks(function, *(x[:1, :3] for x in tokens(5)))
    assert function.tokens == [10, 3]


def test_plain_operators_are_one_call(small_chunks):
    function = Counting()
    with torch.no_grad(), plain_operators():
        in_chunks(function, *tokens(5))
    assert function.tokens == [10]
