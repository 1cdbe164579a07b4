"""Logit loss: eq. (9) and (10) of the paper, against a literal transcription."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from projects.clockdistill.modeling.losses.logits import LogitDistillLoss, LogitPair


def softmax(logits):
    exps = [math.exp(value) for value in logits]
    return [value / sum(exps) for value in exps]


def literal_giou_loss(a, b):
    """1 - GIoU of two cxcywh boxes."""
    ax0, ay0, ax1, ay1 = a[0] - a[2] / 2, a[1] - a[3] / 2, a[0] + a[2] / 2, a[1] + a[3] / 2
    bx0, by0, bx1, by1 = b[0] - b[2] / 2, b[1] - b[3] / 2, b[0] + b[2] / 2, b[1] + b[3] / 2
    inter = max(0, min(ax1, bx1) - max(ax0, bx0)) * max(0, min(ay1, by1) - max(ay0, by0))
    union = a[2] * a[3] + b[2] * b[3] - inter
    hull = (max(ax1, bx1) - min(ax0, bx0)) * (max(ay1, by1) - min(ay0, by0))
    return 1 - (inter / union - (hull - union) / hull)


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


def divergence(p, q):
    """KL(p || q) of two distributions."""
    return sum(pk * math.log(pk / qk) for pk, qk in zip(p, q, strict=True))


def literal(pair, temperature, kl_reduction, confidence, kl, weights=(1.0, 5.0, 2.0)):
    """Eq. (9) query by query, each group and stage divided by its sum of w."""
    stages, images, queries, classes = pair.student_logits.shape
    total = 0.0
    for e in range(stages):
        numerator = denominator = 0.0
        for b in range(images):
            for g in range(queries):
                if pair.valid is not None and not pair.valid[b, g]:
                    continue
                taught = pair.teacher_logits[e, b, g].tolist()
                learnt = pair.student_logits[e, b, g].tolist()
                if confidence == "softmax":
                    w = max(softmax(taught))  # eq. (10)
                else:
                    w = max(sigmoid(value) for value in taught)
                taught = [value / temperature for value in taught]
                learnt = [value / temperature for value in learnt]
                if kl == "softmax":
                    error = divergence(softmax(taught), softmax(learnt))
                else:  # one Bernoulli distribution a class
                    bernoulli = [
                        [(sigmoid(value), 1 - sigmoid(value)) for value in values]
                        for values in (taught, learnt)
                    ]
                    error = sum(divergence(p, q) for p, q in zip(*bernoulli, strict=True))
                error *= temperature**2 / (classes if kl_reduction == "mean" else 1)
                student_box = pair.student_boxes[e, b, g].tolist()
                teacher_box = pair.teacher_boxes[e, b, g].tolist()
                l1 = sum(abs(s - t) for s, t in zip(student_box, teacher_box, strict=True))
                giou = literal_giou_loss(student_box, teacher_box)
                numerator += w * (weights[0] * error + weights[1] * l1 + weights[2] * giou)
                denominator += w
        total += numerator / denominator if denominator else 0.0
    return total * pair.copies


def random_pair(stages=2, images=2, queries=3, classes=4, seed=0, valid=None, copies=1):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, stages, images, queries, classes, generator=generator) * 2 - 1
    boxes = torch.rand(2, stages, images, queries, 4, generator=generator) * 0.5 + 0.2
    return LogitPair(logits[0], boxes[0], logits[1], boxes[1], valid, copies)


def total(losses):
    return sum(losses.values())


@settings(deadline=None, max_examples=25)
@given(
    stages=st.integers(1, 3),
    images=st.integers(1, 2),
    queries=st.integers(1, 4),
    classes=st.integers(1, 5),
    temperature=st.sampled_from([1.0, 4.0, 10.0]),
    kl_reduction=st.sampled_from(["sum", "mean"]),
    confidence=st.sampled_from(["softmax", "sigmoid"]),
    kl=st.sampled_from(["softmax", "sigmoid"]),
    copies=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_equals_the_literal_equation(
    stages, images, queries, classes, temperature, kl_reduction, confidence, kl, copies, seed
):
    valid = torch.rand(images, queries, generator=torch.Generator().manual_seed(seed)) < 0.7
    pair = random_pair(stages, images, queries, classes, seed, valid, copies)
    loss = LogitDistillLoss(
        temperature=temperature, kl_reduction=kl_reduction, confidence=confidence, kl=kl
    )
    expected = literal(pair, temperature, kl_reduction, confidence, kl)
    assert total(loss([pair])).item() == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_groups_add_up():
    first, second = random_pair(seed=1), random_pair(queries=5, seed=2)
    loss = LogitDistillLoss()
    both = loss([first, second])
    for key, value in both.items():
        torch.testing.assert_close(value, loss([first])[key] + loss([second])[key])


def test_a_copy_counts_like_a_group_of_its_own():
    pair = random_pair()
    loss = LogitDistillLoss()
    torch.testing.assert_close(
        total(loss([random_pair(copies=3)])), total(loss([pair, pair, pair]))
    )


@pytest.mark.parametrize("kl", ["softmax", "sigmoid"])
def test_classification_gradient_reaches_the_student_and_never_the_teacher(kl):
    pair = random_pair()
    for tensor in (pair.student_logits, pair.teacher_logits, pair.teacher_boxes):
        tensor.requires_grad_()
    LogitDistillLoss(kl=kl)([pair])["class"].backward()
    assert pair.student_logits.grad.abs().sum() > 0
    assert pair.teacher_logits.grad is None and pair.teacher_boxes.grad is None


def test_only_the_sigmoid_divergence_sees_a_shift_of_all_logits():
    pair = random_pair()
    shifted = replace(pair, student_logits=pair.teacher_logits - 3)
    assert LogitDistillLoss()([shifted])["class"].item() == pytest.approx(0, abs=1e-4)
    assert LogitDistillLoss(kl="sigmoid")([shifted])["class"] > 1


@pytest.mark.parametrize("kl", ["softmax", "sigmoid"])
def test_confident_logits_stay_finite(kl):
    sure = torch.tensor([100.0, -100.0]).expand(1, 1, 1, 2)
    pair = replace(random_pair(1, 1, 1, 2), teacher_logits=sure, student_logits=-sure.clone())
    pair.student_logits.requires_grad_()
    value = LogitDistillLoss(temperature=1.0, kl=kl)([pair])["class"]
    value.backward()
    assert value.isfinite() and pair.student_logits.grad.isfinite().all()


@pytest.mark.parametrize("kl", ["softmax", "sigmoid"])
def test_is_zero_where_student_and_teacher_agree(kl):
    pair = random_pair()
    same = LogitPair(
        pair.teacher_logits, pair.teacher_boxes, pair.teacher_logits, pair.teacher_boxes
    )
    torch.testing.assert_close(total(LogitDistillLoss(kl=kl)([same])), torch.tensor(0.0))


def test_filler_never_matters():
    valid = torch.tensor([[True, False, True], [True, True, False]])
    loss = LogitDistillLoss()
    pair = random_pair(valid=valid)
    expected = total(loss([pair]))
    logits = pair.student_logits.masked_fill(~valid[..., None], float("nan")).requires_grad_()
    boxes = pair.student_boxes.masked_fill(~valid[..., None], 1e6).requires_grad_()
    spoilt = LogitPair(logits, boxes, pair.teacher_logits, pair.teacher_boxes, valid)
    torch.testing.assert_close(total(loss([spoilt])), expected)


def test_no_valid_query_gives_zero_and_finite_gradients():
    pair = random_pair(valid=torch.zeros(2, 3, dtype=torch.bool))
    pair.student_logits.requires_grad_()
    value = total(LogitDistillLoss()([pair]))
    value.backward()
    assert value.item() == 0 and pair.student_logits.grad.isfinite().all()


def test_does_not_grow_with_batch_or_points():
    pair = random_pair(images=1, queries=2)
    loss = LogitDistillLoss()
    tensors = (pair.student_logits, pair.student_boxes, pair.teacher_logits, pair.teacher_boxes)
    larger = LogitPair(*(tensor.repeat(1, 3, 2, 1) for tensor in tensors))
    torch.testing.assert_close(total(loss([larger])), total(loss([pair])))


def test_weights_scale_their_term_alone():
    pair = random_pair()
    base = LogitDistillLoss()([pair])
    other = LogitDistillLoss(cls_weight=2.0, l1_weight=0.0, giou_weight=2.0)([pair])
    torch.testing.assert_close(other["class"], 2 * base["class"])
    assert other["bbox"].item() == 0
    torch.testing.assert_close(other["giou"], base["giou"])


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0}, {"kl_reduction": "max"}, {"confidence": "argmax"}, {"kl": "tanh"}],
)
def test_bad_options_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LogitDistillLoss(**options)
