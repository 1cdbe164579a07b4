"""Memory loss: eq. (5) of the paper, against a literal transcription."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from projects.clockdistill.modeling.losses.memory import MemoryDistillLoss


def literal(student, teacher, token_weights):
    """Eq. (5) by hand: sum over tokens and channels, then the mean over images."""
    total = 0.0
    images, tokens, channels = student.shape
    for b in range(images):
        for p in range(tokens):
            for d in range(channels):
                error = student[b, p, d].item() - teacher[b, p, d].item()
                total += token_weights[b, p].item() * error**2
    return total / images


def test_weights_tokens_and_ignores_padding():
    # squared errors 1, 9, 100; weights 1, 0.5, 0 (padding) -> 1 + 4.5
    student = torch.tensor([[[1.0], [3.0], [10.0]]])
    value = MemoryDistillLoss(1, 1)(student, torch.zeros(1, 3, 1), torch.tensor([[1.0, 0.5, 0.0]]))
    torch.testing.assert_close(value, torch.tensor(5.5))


@settings(deadline=None, max_examples=25)
@given(
    images=st.integers(1, 3),
    tokens=st.integers(1, 6),
    channels=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_equals_the_literal_equation(images, tokens, channels, seed):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, images, tokens, channels, generator=generator)
    weights = torch.rand(images, tokens, generator=generator)
    value = MemoryDistillLoss(channels, channels)(student, teacher, weights)
    expected = literal(student, teacher, weights)
    assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_gradient_reaches_the_student_only():
    student = torch.randn(1, 3, 2, requires_grad=True)
    teacher = torch.randn(1, 3, 2, requires_grad=True)
    MemoryDistillLoss(2, 2)(student, teacher, torch.ones(1, 3)).backward()
    # d/ds of (s - t)^2 is 2 (s - t)
    torch.testing.assert_close(student.grad, 2 * (student - teacher).detach())
    assert teacher.grad is None


@pytest.mark.parametrize("garbage", [1e30, float("inf"), float("nan")])
def test_padded_cells_never_matter(garbage):
    student, teacher = torch.randn(1, 3, 2), torch.randn(1, 3, 4)
    weights = torch.tensor([[1.0, 2.0, 0.0]])
    loss = MemoryDistillLoss(2, 4)
    expected = loss(student, teacher, weights)
    gradients = torch.autograd.grad(expected, list(loss.parameters()))
    student[:, 2] = teacher[:, 2] = garbage
    student.requires_grad_()
    value = loss(student, teacher, weights)
    value.backward()
    torch.testing.assert_close(value, expected)
    assert student.grad[:, :2].all() and not student.grad[:, 2].any()
    for parameter, grad in zip(loss.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, grad)


def test_adapts_only_where_widths_differ():
    assert not list(MemoryDistillLoss(4, 4).parameters())
    loss = MemoryDistillLoss(3, 5)
    value = loss(torch.randn(1, 2, 3), torch.randn(1, 2, 5), torch.ones(1, 2))
    value.backward()
    assert all(parameter.grad is not None for parameter in loss.parameters())


def test_other_levels_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(1, 3, 2\), teacher memory of shape \(1, 4, 2\)"):
        MemoryDistillLoss(2, 2)(torch.zeros(1, 3, 2), torch.zeros(1, 4, 2), torch.ones(1, 3))


def test_half_precision_memories_give_a_finite_float32_loss():
    student = torch.full((1, 2, 2), 3e4, dtype=torch.float16)  # its square overflows float16
    value = MemoryDistillLoss(2, 2)(student, torch.zeros_like(student), torch.ones(1, 2))
    assert value.dtype == torch.float32 and value.isfinite()
