"""Draws of their own: by seed and step, and nobody else's."""

import torch

from projects.clockdistill.modeling.step_random import StepRandom


def test_draws_depend_on_seed_and_step_alone():
    first, second = StepRandom(3), StepRandom(3)
    torch.manual_seed(5)
    drawn = [first.uniform((4,)), first.normal((4,))]
    torch.manual_seed(6)
    again = [second.uniform((4,)), second.normal((4,))]
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))
    assert not torch.equal(first.uniform((4,)), drawn[0])
    assert not torch.equal(StepRandom(4).uniform((4,)), drawn[0])


def test_the_global_generator_stays_where_it_is():
    before = torch.get_rng_state()
    StepRandom(0).normal((3,))
    assert torch.equal(before, torch.get_rng_state())
