"""Triton's kernels, interpreted on the CPU, equal `grid_sample` in float64.

`test_deformable_triton.py` runs this file in a process of its own: TRITON_INTERPRET must be set
before triton is imported.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from projects.clockdistill.modeling.detectors.layers import deformable_sampling as sampling
from projects.clockdistill.modeling.detectors.layers import deformable_triton as kernel

# of the largest number: a few roundings of each dtype
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}

Shapes = list[tuple[int, int]]


def drawn(shapes, batch, queries, heads, points, channels, reach=0.5, dtype=torch.float32):
    """Values, locations from -reach to 1 + reach, and weights."""
    samples = (batch, queries, heads, len(shapes), points)
    value = torch.randn(batch, sum(h * w for h, w in shapes), heads, channels).to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    locations = torch.rand(*samples, 2, dtype=wide) * (1 + 2 * reach) - reach
    return value, locations, torch.rand(samples, dtype=wide)


def check(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> None:
    """Compares output and all gradients."""
    exact = [x.detach().double().requires_grad_() for x in (value, locations, weights)]
    expected = sampling.sample_by_grid(exact[0], shapes, *exact[1:])
    upstream = torch.randn(expected.shape).to(value.dtype)
    found = kernel.forward(value, shapes, locations, weights)
    found = [found, *kernel.backward(upstream, value, shapes, locations, weights)]
    wanted = [expected.detach(), *torch.autograd.grad(expected, exact, upstream.double())]
    assert [x.dtype for x in found] == [value.dtype, value.dtype, locations.dtype, weights.dtype]
    for ours, theirs in zip(found, wanted, strict=True):
        scale = float(theirs.abs().max()) if theirs.numel() else 0
        tolerance = TOLERANCES[value.dtype] * (1 + scale)
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=tolerance)


@settings(max_examples=20, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4),
    sizes=st.tuples(
        st.integers(1, 2),  # images
        st.sampled_from([1, 3, 9]),  # queries
        st.integers(1, 2),  # heads
        st.integers(1, 3),  # points
        st.sampled_from([1, 8, 16, 24, 32, 64]),  # channels
    ),
    reach=st.sampled_from([0.0, 0.5, 100.0]),
    dtype=st.sampled_from(list(TOLERANCES)),
    seed=st.integers(0, 2**16),
)
def test_random_sizes(shapes, sizes, reach, dtype, seed):
    torch.manual_seed(seed)
    value, locations, weights = drawn(shapes, *sizes, reach, dtype)
    check(value, shapes, locations, weights)


def test_borders_and_far_outside():
    edges = torch.tensor([0.0, 1.0, 0.125, 0.875, -0.125, 1.125, -1e9, 1e9, 1e30])
    x, y = torch.meshgrid(edges, edges, indexing="ij")
    locations = torch.stack((x, y), -1).view(1, 1, 1, 1, -1, 2)
    value, _, _ = drawn([(4, 4)], 1, 1, 1, 1, 16)
    check(value, [(4, 4)], locations, torch.rand(locations.shape[:-1]))


def test_locations_that_are_no_numbers_reach_nothing():
    value, locations, weights = drawn([(3, 3)], 1, 3, 1, 1, 16)
    locations[0, 0, ..., 0] = float("nan")
    locations[0, 1, ..., 1] = float("inf")
    output = kernel.forward(value, [(3, 3)], locations, weights)
    grads = kernel.backward(torch.ones_like(output), value, [(3, 3)], locations, weights)
    assert all(x.isfinite().all() for x in (output, *grads))
    assert not output[0, :2].any()


@pytest.mark.parametrize(("images", "queries"), [(2, 0), (0, 3)])
def test_nothing_to_do(images, queries):
    value, locations, weights = drawn([(2, 3)], images, queries, 2, 2, 16)
    check(value, [(2, 3)], locations, weights)


def test_any_memory_layout_is_taken():
    inputs = drawn([(2, 3), (1, 1)], 2, 5, 2, 2, 16)
    value, locations, weights = (x.transpose(0, 1).contiguous().transpose(0, 1) for x in inputs)
    check(value, [(2, 3), (1, 1)], locations, weights)


def test_the_operator_uses_it_where_it_is_asked_for(monkeypatch):
    monkeypatch.setenv(sampling.VARIABLE, "triton")
    value, locations, weights = drawn([(2, 3), (1, 1)], 1, 5, 2, 2, 16, dtype=torch.bfloat16)
    inputs = [x.requires_grad_() for x in (value, locations, weights)]
    assert sampling.backend("cpu") == "triton"
    output = sampling.deformable_sample(inputs[0], [(2, 3), (1, 1)], *inputs[1:])
    assert torch.equal(output, kernel.forward(value, [(2, 3), (1, 1)], locations, weights))
    grads = torch.autograd.grad(output.sum(), inputs)
    assert [x.dtype for x in grads] == [x.dtype for x in inputs]
