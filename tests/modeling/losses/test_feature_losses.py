"""What holds for every loss on the neck's features: FitNet, FGD and MGD."""

import copy

import pytest
import torch
from torch import nn

from projects.clockdistill.modeling.losses import FGDLoss, FitNetLoss, MGDLoss
from tests.modeling.losses.feature_maps import EMPTY, TARGETS, image_of, random_features

CLASSES = (FitNetLoss, FGDLoss, MGDLoss)


@pytest.fixture(params=CLASSES, ids=lambda kind: kind.__name__)
def kind(request) -> type[nn.Module]:
    return request.param


def build(kind, student_dim=4, teacher_dim=4, **options) -> nn.Module:
    """A loss in the middle of training: no parameter is 0, as some are at the start."""
    loss = kind(student_dim, teacher_dim, num_levels=2, **options)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for parameter in loss.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return loss


def test_gradient_reaches_every_level_of_the_student_and_never_the_teacher(kind):
    student, teacher, masks = random_features()
    for x in (*student, *teacher):
        x.requires_grad_()
    value = build(kind)(student, teacher, masks, TARGETS)
    assert value.shape == () and value.dtype == torch.float32 and value > 0
    value.backward()
    assert all(x.grad.abs().sum() > 0 for x in student)
    assert all(x.grad is None for x in teacher)


@pytest.mark.parametrize(("student_dim", "teacher_dim"), [(4, 4), (3, 6)])
def test_every_parameter_is_trained_at_any_width(kind, student_dim, teacher_dim):
    loss = build(kind, student_dim, teacher_dim)
    loss(*random_features(student_dim, teacher_dim), TARGETS).backward()
    idle = [name for name, p in loss.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@pytest.mark.parametrize("garbage", [1e30, float("inf"), float("nan")])
def test_padded_cells_never_matter(kind, garbage):
    loss = build(kind, teacher_dim=6)
    student, teacher, masks = random_features(teacher_dim=6)
    clean = [x.clone().requires_grad_() for x in student]
    reference = copy.deepcopy(loss)  # draws what the original will
    expected = reference(clean, teacher, masks, TARGETS)
    expected.backward()

    def spoil(features):
        return [x.masked_fill(m[:, None], garbage) for x, m in zip(features, masks, strict=True)]

    spoilt = [x.requires_grad_() for x in spoil(student)]
    value = loss(spoilt, spoil(teacher), masks, TARGETS)
    value.backward()
    torch.testing.assert_close(value, expected)
    for x, other, mask in zip(spoilt, clean, masks, strict=True):
        torch.testing.assert_close(x.grad, other.grad)
        assert not x.grad.movedim(1, -1)[mask].any()
    for parameter, other in zip(loss.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad)


def test_an_image_gives_the_same_alone_without_padding_as_in_a_batch(kind):
    without_draws = {"mask_ratio": 0.0} if kind is MGDLoss else {}
    loss = build(kind, teacher_dim=6, **without_draws)
    features = random_features(teacher_dim=6)
    alone = [loss(*image_of(features, i), [TARGETS[i]]) for i in range(2)]
    torch.testing.assert_close(loss(*features, TARGETS), sum(alone) / 2)


def test_images_without_objects(kind):
    student, teacher, masks = random_features()
    student = [x.requires_grad_() for x in student]
    value = build(kind)(student, teacher, masks, [EMPTY, EMPTY])
    value.backward()
    assert value.isfinite() and value > 0
    assert all(x.grad.isfinite().all() and x.grad.any() for x in student)


@pytest.mark.parametrize("kept_in", [torch.float32, torch.bfloat16])
def test_mixed_precision_stays_close_and_gives_float32(kind, kept_in):
    loss = build(kind)
    student, teacher, masks = random_features()
    expected = copy.deepcopy(loss)(student, teacher, masks, TARGETS)
    student = [x.to(kept_in).requires_grad_() for x in student]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(student, [x.to(kept_in) for x in teacher], masks, TARGETS)
    value.backward()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=0.05, atol=0)
    assert all(x.grad.isfinite().all() for x in student)


def test_half_precision_features_whose_squares_overflow_give_a_finite_loss(kind):
    student, teacher, masks = random_features()
    student = [(1e4 * x).half().requires_grad_() for x in student]
    value = build(kind)(student, [x.half() for x in teacher], masks, TARGETS)
    assert value.dtype == torch.float32 and value.isfinite()


def test_other_levels_or_widths_are_refused_with_what_they_are(kind):
    student, teacher, masks = random_features()
    loss = build(kind)
    with pytest.raises(ValueError, match="1 levels of the student's features, 2 of the teacher's"):
        loss(student[:1], teacher, masks, TARGETS)
    with pytest.raises(ValueError, match=r"level 1 differs: student \(2, 4, 2, 3\)"):
        loss(student, [teacher[0], teacher[1][..., 1:]], masks, TARGETS)
