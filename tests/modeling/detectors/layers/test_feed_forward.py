"""Feed-forward parts: widths of the MLP, activations that are copied and named twice."""

import pytest
import torch
from torch import nn

from projects.clockdistill.modeling.detectors.layers.feed_forward import FFN, MLP


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
