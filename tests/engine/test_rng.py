"""Tests that the state of every generator can be saved and restored."""

import random

import numpy as np
import torch

from projects.clockdistill.engine.rng import get_rng_state, preserved_rng, set_rng_state


def _draw() -> list[float]:
    # an odd number of normals leaves one cached in numpy and in python: part of the state
    return [
        torch.rand(()).item(),
        float(np.random.normal()),
        random.gauss(0, 1),
        float(np.random.rand()),
        random.random(),
    ]


def test_restored_state_gives_the_same_draws(tmp_path) -> None:
    _draw()
    torch.save(get_rng_state(), tmp_path / "rng.pth")
    first = _draw()
    assert _draw() != first
    set_rng_state(torch.load(tmp_path / "rng.pth", weights_only=True))
    assert _draw() == first


def test_draws_inside_change_nothing_outside() -> None:
    state = get_rng_state()
    expected = _draw()
    set_rng_state(state)
    with preserved_rng():
        _draw()
    assert _draw() == expected
