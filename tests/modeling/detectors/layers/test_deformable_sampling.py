"""The operator and its reference equal a literal transcription of the equation."""

import importlib
import math
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from projects.clockdistill.modeling.detectors import layers
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
LAYERS = "projects.clockdistill.modeling.detectors.layers"
each_way = pytest.mark.parametrize(
    "sample", [sampling.deformable_sample, sampling.sample_by_grid], ids=["operator", "grid"]
)


@each_way
def test_equals_the_literal_transcription(sample):
    given_arguments = arguments(SHAPES)
    torch.testing.assert_close(sample(*given_arguments), literal(*given_arguments))


@each_way
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
def test_operator_and_reference_agree(shapes, sizes, reach, seed):
    torch.manual_seed(seed)
    batch, queries, heads, points = sizes
    same = arguments(shapes, batch, queries, heads, points, low=-reach, high=1 + reach)
    torch.testing.assert_close(sampling.deformable_sample(*same), sampling.sample_by_grid(*same))


@each_way
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


def test_torch_accepts_the_operator():
    """Its schema, fake implementation and gradients agree with what it computes."""
    value, _, locations, weights = arguments(SHAPES)
    inputs = [x.requires_grad_() for x in (value, locations, weights)]
    sizes = [size for shape in SHAPES for size in shape]
    operator = torch.ops.clockdistill.deformable_sample.default
    torch.library.opcheck(operator, (inputs[0], sizes, *inputs[1:]))


def test_any_memory_layout_is_taken():
    value, shapes, locations, weights = arguments(SHAPES)
    strided = [x.requires_grad_() for x in in_another_layout(value, locations, weights)]
    output = sampling.deformable_sample(strided[0], shapes, *strided[1:])
    expected = literal(strided[0], shapes, *strided[1:])
    torch.testing.assert_close(output, expected)
    upstream = torch.randn_like(output.transpose(0, 1)).transpose(0, 1)
    torch.testing.assert_close(
        torch.autograd.grad(output, strided, upstream),
        torch.autograd.grad(expected, strided, upstream),
    )


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_kernels_threads_are_torchs_and_change_nothing(threads):
    value, shapes, locations, weights = arguments(SHAPES)
    inputs = [x.requires_grad_() for x in (value, locations, weights)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        output = sampling.deformable_sample(value, shapes, locations, weights)
        grads = torch.autograd.grad(output.square().sum(), inputs)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    expected = sampling.sample_by_grid(value, shapes, locations, weights)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(grads, torch.autograd.grad(expected.square().sum(), inputs))


def test_plain_operators_are_torchs_own():
    value, shapes, locations, weights = arguments(SHAPES)

    def operators() -> set[str]:
        with torch.profiler.profile() as profile:
            sampling.deformable_sample(value, shapes, locations, weights)
        return {event.key for event in profile.key_averages()}

    assert "clockdistill::deformable_sample" in operators()
    with plain_operators():
        assert "aten::grid_sampler" in operators()
        assert "clockdistill::deformable_sample" not in operators()


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
def choose(monkeypatch):
    """Forces a backend, whatever was chosen before, and forgets it afterwards."""

    def force(name: str) -> None:
        monkeypatch.setenv(sampling.VARIABLE, name)
        sampling._choose.cache_clear()

    yield force
    sampling._choose.cache_clear()
    sampling._kernel.cache_clear()


@pytest.fixture
def stand_in_operator(monkeypatch):
    """As if detrex were installed with its compiled operator."""
    monkeypatch.setitem(sys.modules, "detrex", SimpleNamespace(_C=StandInOperator))
    yield
    sys.modules.pop(f"{LAYERS}.deformable_detrex", None)


def test_detrexs_operator_gets_what_its_signature_says(stand_in_operator):
    value, shapes, locations, weights = arguments(SHAPES)
    inputs = [x.requires_grad_() for x in in_another_layout(value, locations, weights)]
    kernel = importlib.import_module(f"{LAYERS}.deformable_detrex")
    expected = literal(inputs[0], shapes, *inputs[1:])
    torch.testing.assert_close(kernel.forward(inputs[0], shapes, *inputs[1:]), expected)
    upstream = torch.randn_like(expected.transpose(0, 1)).transpose(0, 1)
    torch.testing.assert_close(
        kernel.backward(upstream, inputs[0], shapes, *inputs[1:]),
        torch.autograd.grad(expected, inputs, upstream),
    )


def test_detrexs_operator_runs_where_it_is_asked_for(stand_in_operator, choose):
    choose("detrex")
    given_arguments = arguments(SHAPES)
    output = sampling.deformable_sample(*given_arguments)
    torch.testing.assert_close(output, literal(*given_arguments))
    assert sampling.backend("cpu") == "detrex"


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


def test_without_a_backend_grid_sample_runs_and_the_log_says_why(monkeypatch, choose, caplog):
    monkeypatch.delattr(layers, "deformable_numba", raising=False)
    monkeypatch.setitem(sys.modules, f"{LAYERS}.deformable_numba", None)  # its import fails
    choose("")
    sampling._kernel.cache_clear()
    given_arguments = arguments(SHAPES)
    with caplog.at_level("INFO"):
        for _ in range(2):
            torch.testing.assert_close(
                sampling.deformable_sample(*given_arguments), literal(*given_arguments)
            )
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "grid_sample, several times slower" in caplog.text
    assert "ModuleNotFoundError" in caplog.text


def test_a_kernel_with_wrong_numbers_is_not_used(monkeypatch, choose, caplog):
    choose("")
    kernel = sampling._kernel("numba")
    monkeypatch.setattr(kernel, "forward", lambda value, *_: torch.zeros(1, 2, 4))
    assert sampling.backend("cpu") == "grid_sample"
    assert "ArithmeticError" in caplog.text


@pytest.mark.parametrize(
    ("name", "message"), [("cuda", "is no backend"), ("detrex", "cannot be used on cpu")]
)
def test_a_forced_backend_that_is_not_there_is_refused(name, message, choose):
    choose(name)
    with pytest.raises(RuntimeError, match=f"CLOCKDISTILL_SAMPLING={name}.*{message}") as error:
        sampling.deformable_sample(*arguments(SHAPES))
    assert "Fix: " in str(error.value)


def test_grid_sample_can_be_forced(choose):
    choose("grid_sample")
    given_arguments = arguments(SHAPES)
    with torch.profiler.profile() as profile:
        sampling.deformable_sample(*given_arguments)
    operators = {event.key for event in profile.key_averages()}
    assert "aten::grid_sampler" in operators
    assert "clockdistill::deformable_sample" not in operators


def test_a_compiled_graph_holds_the_operator_whatever_was_chosen_before(choose):
    """The choice and its log line do not break the graph."""
    choose("")
    value, shapes, locations, weights = arguments(SHAPES)
    inputs = [x.requires_grad_() for x in (value, locations, weights)]
    compiled = torch.compile(sampling.deformable_sample, backend="aot_eager", fullgraph=True)
    output = compiled(inputs[0], shapes, *inputs[1:])
    expected = literal(inputs[0], shapes, *inputs[1:])
    torch.testing.assert_close(output, expected)
    upstream = torch.randn_like(output)
    torch.testing.assert_close(
        torch.autograd.grad(output, inputs, upstream),
        torch.autograd.grad(expected, inputs, upstream),
    )


@pytest.mark.parametrize("plain", [False, True])
def test_half_precision_values_are_sampled_in_float32(plain):
    value, shapes, locations, weights = arguments(SHAPES)
    locations, weights = locations.float(), weights.float()
    half = value.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16), plain_operators() if plain else nullcontext():
        output = sampling.deformable_sample(half, shapes, locations, weights)
    exact = literal(half.float(), shapes, locations, weights)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), exact, rtol=2**-8, atol=1e-6)  # one rounding
