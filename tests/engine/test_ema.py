"""Tests the moving average of the student."""

import pytest
import torch
from torch import nn

from projects.clockdistill.engine.ema import ModelEma
from tests.modeling.host_syncs import no_host_syncs


def detector() -> nn.Module:
    """Returns a module with parameters, float buffers and a counter, as a detector has."""
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


@pytest.mark.parametrize("decay", [0.0, 0.15, 0.9997])
def test_average_equals_its_formula_at_every_step(decay: float) -> None:
    model = detector()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    ema = ModelEma(model, decay)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(12):
        optimizer.zero_grad()
        model(torch.randn(5, 2)).pow(2).sum().backward()
        optimizer.step()
        ema.update_parameters(model)
        weight = min(decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                expected[name] = weight * expected[name] + (1 - weight) * value
            else:
                expected[name] = value.clone()
        torch.testing.assert_close(dict(ema.module.state_dict()), expected)
    assert expected["1.num_batches_tracked"] == 12


def test_average_continues_from_its_state_and_restarts_from_weights() -> None:
    model = detector()
    ema, other = ModelEma(model, decay=0.9), ModelEma(detector(), decay=0.9)
    nn.init.ones_(model[0].weight)
    ema.update_parameters(model)
    other.load_state_dict(ema.state_dict())
    for average in (ema, other):
        average.update_parameters(model)
    torch.testing.assert_close(other.state_dict(), ema.state_dict(), rtol=0, atol=0)

    other.restart(model)
    fresh = ModelEma(model, decay=0.9)
    torch.testing.assert_close(other.state_dict(), fresh.state_dict(), rtol=0, atol=0)


def test_decay_out_of_range_names_the_key() -> None:
    with pytest.raises(ValueError, match=r"train\.model_ema\.decay=1\.0"):
        ModelEma(detector(), decay=1.0)


def test_an_update_waits_for_no_device() -> None:
    model = detector().to("meta")
    ema = ModelEma(model, decay=0.9)
    with no_host_syncs() as copies:
        ema.update_parameters(model)
    assert copies.to_host == copies.to_device == 0
