"""The moving average follows its formula and gives the weights back."""

import pytest
import torch
from torch import nn

from projects.clockdistill.engine.ema import ModelEma


def _module(value: float) -> nn.Module:
    module = nn.BatchNorm1d(1)
    nn.init.constant_(module.weight, value)
    return module


def test_average_follows_the_formula() -> None:
    module = _module(1.0)
    ema = ModelEma(module, decay=0.15)
    nn.init.constant_(module.weight, 2.0)
    module.running_mean.fill_(10.0)
    module.num_batches_tracked.fill_(7)
    # step 0: decay = min(0.15, 1/10) = 0.1 -> 0.1 * 1 + 0.9 * 2; the mean 0.1 * 0 + 0.9 * 10
    ema.update()
    torch.testing.assert_close(ema.weights()["weight"], torch.tensor([1.9]))
    torch.testing.assert_close(ema.weights()["running_mean"], torch.tensor([9.0]))
    assert ema.weights()["num_batches_tracked"] == 7  # a counter has no average
    # step 1: decay = min(0.15, 2/11) = 0.15 -> 0.15 * 1.9 + 0.85 * 2 = 1.985
    ema.update()
    torch.testing.assert_close(ema.weights()["weight"], torch.tensor([1.985]))


def test_applied_swaps_the_weights_and_gives_them_back() -> None:
    module = _module(1.0)
    ema = ModelEma(module, decay=0.5)
    nn.init.constant_(module.weight, 2.0)
    with ema.applied():
        assert module.weight.item() == 1.0
    assert module.weight.item() == 2.0


def test_state_survives_a_round_trip() -> None:
    ema = ModelEma(_module(1.0), decay=0.9)
    ema.update()
    other = ModelEma(_module(5.0), decay=0.9)
    other.load_state_dict(ema.state_dict())
    assert other.steps == 1
    assert other.weights()["weight"].item() == 1.0


def test_decay_out_of_range_names_the_key() -> None:
    with pytest.raises(ValueError, match=r"train\.model_ema\.decay"):
        ModelEma(_module(1.0), decay=1.0)
