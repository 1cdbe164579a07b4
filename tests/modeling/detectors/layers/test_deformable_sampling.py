"""All ways of sampling equal a literal transcription of the equation."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from projects.clockdistill.modeling.detectors.layers import deformable_sampling as sampling
from projects.clockdistill.modeling.detectors.layers.plain import plain_operators


def neighbours(position: Tensor) -> tuple[int, int]:
    lower = math.floor(position.detach())
    return lower, lower + 1


def literal(value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor):
    """Deformable DETR, eq. (3), point by point: bilinear with cell centres at (i + 1/2) / size."""
    batch, queries, heads, _, points, _ = locations.shape
    rows = []
    for b in range(batch):
        for q in range(queries):
            for m in range(heads):
                total, start = torch.zeros_like(value[b, 0, m]), 0
                for level, (height, width) in enumerate(shapes):
                    for p in range(points):
                        x = locations[b, q, m, level, p, 0] * width - 0.5
                        y = locations[b, q, m, level, p, 1] * height - 0.5
                        for row in neighbours(y):
                            for column in neighbours(x):
                                if 0 <= row < height and 0 <= column < width:
                                    share = (1 - abs(x - column)) * (1 - abs(y - row))
                                    cell = value[b, start + row * width + column, m]
                                    total = total + weights[b, q, m, level, p] * share * cell
                    start += height * width
                rows.append(total)
    return torch.stack(rows).view(batch, queries, -1)


def arguments(shapes, batch=2, queries=3, heads=2, points=2, channels=3, low=-0.5, high=1.5):
    tokens = sum(h * w for h, w in shapes)
    value = torch.randn(batch, tokens, heads, channels, dtype=torch.float64)
    locations = torch.rand(batch, queries, heads, len(shapes), points, 2, dtype=torch.float64)
    weights = torch.rand(batch, queries, heads, len(shapes), points, dtype=torch.float64)
    return value, shapes, locations * (high - low) + low, weights


def in_another_layout(*tensors: Tensor) -> list[Tensor]:
    """The same numbers, not contiguous."""
    return [x.transpose(0, 1).contiguous().transpose(0, 1) for x in tensors]


SHAPES = [(4, 5), (2, 3), (1, 1)]
OPERATOR = "projects.clockdistill.modeling.detectors.layers.deformable_operator"
WAYS = [sampling.sample_by_grid, sampling.sample_by_bags, sampling.sample_by_kernel]


@pytest.mark.parametrize("sample", WAYS)
def test_equals_the_literal_transcription(sample):
    given_arguments = arguments(SHAPES)
    torch.testing.assert_close(sample(*given_arguments), literal(*given_arguments))


@pytest.mark.parametrize("sample", WAYS)
def test_borders_and_far_outside(sample):
    edges = torch.tensor([0.0, 1.0, 0.125, 0.875, -0.125, 1.125, -1e9, 1e9], dtype=torch.float64)
    x, y = torch.meshgrid(edges, edges, indexing="ij")
    locations = torch.stack((x, y), -1).view(1, 1, 1, 1, -1, 2)
    value = torch.randn(1, 16, 1, 2, dtype=torch.float64)
    weights = torch.rand(locations.shape[:-1], dtype=torch.float64)
    expected = literal(value, [(4, 4)], locations, weights)
    torch.testing.assert_close(sample(value, [(4, 4)], locations, weights), expected)


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4),
    sizes=st.tuples(*[st.integers(1, 4)] * 4),
    reach=st.sampled_from([0.0, 0.5, 100.0]),
    seed=st.integers(0, 2**16),
)
def test_the_ways_are_one(shapes, sizes, reach, seed):
    torch.manual_seed(seed)
    batch, queries, heads, points = sizes
    same = arguments(shapes, batch, queries, heads, points, low=-reach, high=1 + reach)
    expected = sampling.sample_by_grid(*same)
    torch.testing.assert_close(sampling.sample_by_bags(*same), expected)
    torch.testing.assert_close(sampling.sample_by_kernel(*same), expected)


@pytest.mark.parametrize("sample", WAYS)
def test_gradients_equal_the_transcriptions(sample):
    value, shapes, locations, weights = arguments([(3, 4), (2, 2)], batch=1, queries=2, points=1)
    inputs = [x.requires_grad_() for x in (value, locations, weights)]

    def of_tensors(value, locations, weights):
        return sample(value, shapes, locations, weights)

    assert torch.autograd.gradcheck(of_tensors, inputs)
    output = literal(value, shapes, locations, weights)
    upstream = torch.randn_like(output)
    ours = torch.autograd.grad(of_tensors(*inputs), inputs, upstream)
    torch.testing.assert_close(ours, torch.autograd.grad(output, inputs, upstream))


def test_the_kernel_takes_any_memory_layout():
    value, shapes, locations, weights = arguments(SHAPES)
    strided = in_another_layout(value, locations, weights)
    expected = sampling.sample_by_kernel(value, shapes, locations, weights)
    got = sampling.sample_by_kernel(strided[0], shapes, *strided[1:])
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_kernels_threads_are_torchs_and_change_nothing(threads):
    value, shapes, locations, weights = arguments(SHAPES)
    inputs = [x.requires_grad_() for x in (value, locations, weights)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        output = sampling.sample_by_kernel(value, shapes, locations, weights)
        grads = torch.autograd.grad(output.square().sum(), inputs)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    expected = sampling.sample_by_grid(value, shapes, locations, weights)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(grads, torch.autograd.grad(expected.square().sum(), inputs))


def chosen_ways(monkeypatch, *given_arguments) -> list[str]:
    """Which way is taken with and without gradients."""
    chosen = []
    for way in ("grid", "bags", "kernel"):
        monkeypatch.setattr(
            sampling, f"sample_by_{way}", lambda *a, way=way: chosen.append(way) or a[0]
        )
    sampling.deformable_sample(*given_arguments)
    with torch.no_grad():
        sampling.deformable_sample(*given_arguments)
    return chosen


@pytest.mark.parametrize("needs", [0, 2, 3, None])
def test_the_kernel_is_taken_where_it_is_available(needs, monkeypatch):
    given_arguments = list(arguments(SHAPES))
    if needs is not None:
        given_arguments[needs].requires_grad_()
    assert chosen_ways(monkeypatch, *given_arguments) == ["kernel", "kernel"]


@pytest.mark.parametrize("needs", [0, 2, 3, None])
def test_without_the_kernel_bags_only_where_no_gradient_is_wanted(needs, monkeypatch):
    monkeypatch.setattr(sampling, "compiled_kernel", lambda: None)
    given_arguments = list(arguments(SHAPES))
    if needs is not None:
        given_arguments[needs].requires_grad_()
    assert chosen_ways(monkeypatch, *given_arguments) == [
        "bags" if needs is None else "grid",
        "bags",
    ]


def test_a_traced_call_consists_of_torch_operators(monkeypatch):
    value, shapes, locations, weights = arguments(SHAPES)
    with plain_operators():
        traced = torch.jit.trace(
            lambda v, p, w: sampling.deformable_sample(v, shapes, p, w), (value, locations, weights)
        )
    other = arguments(SHAPES)
    torch.testing.assert_close(traced(other[0], *other[2:]), literal(*other))


class StandInOperator:
    """detrex's `_C` as its signature and layouts are, computing by `grid_sample`, on any device."""

    @staticmethod
    def ms_deform_attn_forward(value, shapes, starts, locations, weights, step):
        assert all(x.is_contiguous() for x in (value, shapes, starts, locations, weights))
        sizes = [height * width for height, width in shapes.tolist()]
        assert starts.tolist() == [sum(sizes[:level]) for level in range(len(sizes))]
        assert len(value) % step == 0
        return sampling.sample_by_grid(value, shapes.tolist(), locations, weights)

    @classmethod
    def ms_deform_attn_backward(cls, value, shapes, starts, locations, weights, grad, step):
        assert grad.is_contiguous()
        inputs = [x.detach().requires_grad_() for x in (value, locations, weights)]
        with torch.enable_grad():
            output = cls.ms_deform_attn_forward(inputs[0], shapes, starts, *inputs[1:], step)
        return torch.autograd.grad(output, inputs, grad)


@pytest.fixture
def stand_in_operator(monkeypatch):
    """As if detrex were installed with its compiled operator."""
    monkeypatch.setitem(sys.modules, "detrex", SimpleNamespace(_C=StandInOperator))
    sampling.cuda_operator.cache_clear()
    yield
    sampling.cuda_operator.cache_clear()
    sys.modules.pop(OPERATOR, None)


def test_the_operator_gets_what_its_signature_says(stand_in_operator):
    value, shapes, locations, weights = arguments(SHAPES)
    strided = in_another_layout(value, locations, weights)
    inputs = [x.requires_grad_() for x in strided]
    output = sampling.sample_by_operator(inputs[0], shapes, *inputs[1:])
    expected = literal(inputs[0], shapes, *inputs[1:])
    torch.testing.assert_close(output, expected)
    upstream = torch.randn_like(output.transpose(0, 1)).transpose(0, 1)
    torch.testing.assert_close(
        torch.autograd.grad(output, inputs, upstream),
        torch.autograd.grad(expected, inputs, upstream),
    )


def on_cuda() -> list[SimpleNamespace]:
    """What the choice reads of a CUDA tensor."""
    return [SimpleNamespace(is_cuda=True, is_cpu=False, requires_grad=True)]


def test_on_cuda_the_operator_is_taken_where_it_is_installed(stand_in_operator, caplog):
    with caplog.at_level("INFO"):
        assert sampling._choose(*on_cuda()) is sampling.sample_by_operator
    assert "detrex's compiled operator" in caplog.text


def test_on_cuda_without_it_the_log_says_so(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, OPERATOR, None)  # as if its import failed
    sampling.cuda_operator.cache_clear()
    with caplog.at_level("INFO"):
        assert sampling._choose(*on_cuda()) is sampling.sample_by_grid
    sampling.cuda_operator.cache_clear()
    assert "grid_sample" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_numbers_and_gradients_are_the_same():
    value, shapes, locations, weights = arguments(SHAPES)
    inputs = [x.requires_grad_() for x in (value, locations, weights)]
    expected = literal(inputs[0], shapes, *inputs[1:])
    upstream = torch.randn_like(expected)
    moved = [x.detach().cuda().requires_grad_() for x in inputs]
    output = sampling.deformable_sample(moved[0], shapes, *moved[1:])
    torch.testing.assert_close(output.cpu(), expected)
    grads = torch.autograd.grad(output, moved, upstream.cuda())
    torch.testing.assert_close(
        [grad.cpu() for grad in grads], list(torch.autograd.grad(expected, inputs, upstream))
    )


def test_without_numba_the_log_says_so_and_nothing_fails(monkeypatch, caplog):
    sampling.compiled_kernel.cache_clear()
    kernel = "projects.clockdistill.modeling.detectors.layers.deformable_kernel"
    monkeypatch.setitem(sys.modules, kernel, None)  # as if its import failed
    with caplog.at_level("WARNING"):
        given_arguments = arguments(SHAPES)
        torch.testing.assert_close(
            sampling.deformable_sample(*given_arguments), literal(*given_arguments)
        )
    sampling.compiled_kernel.cache_clear()
    assert "numba" in caplog.text


@pytest.mark.parametrize("gradient", [False, True])
def test_half_precision_values_are_sampled_in_float32(gradient):
    value, shapes, locations, weights = arguments(SHAPES)
    locations, weights = locations.float(), weights.float()
    half = value.bfloat16().requires_grad_(gradient)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = sampling.deformable_sample(half, shapes, locations, weights)
    exact = literal(half.float(), shapes, locations, weights)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), exact, rtol=2**-8, atol=1e-6)  # one rounding
