"""Logit loss: eq. (9) and (10) of the paper, against a literal transcription."""

import math
from typing import NamedTuple

import pytest
import torch
from detectron2.config import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st

from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.modeling.detectors.predictions import Predictions
from projects.clockdistill.modeling.losses.logits import LogitDistillLoss
from projects.clockdistill.modeling.query_groups import QueryGroup


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


def literal(
    pair,
    temperature,
    kl_reduction,
    confidence,
    kl,
    normalised="all",
    l1_reduction="sum",
    weights=(1.0, 5.0, 2.0),
):
    """Eq. (9) query by query; a term is divided by its layer's sum of w, or by the images."""
    student, teacher, (group,) = pair
    layers, images, queries, classes = student.logits.shape
    total = 0.0
    for e in range(layers):
        class_sum = box_sum = sum_of_w = 0.0
        for b in range(images):
            for g in range(queries):
                if group.valid is not None and not group.valid[b, g]:
                    continue
                t = teacher.logits[e, b, g].tolist()
                s = student.logits[e, b, g].tolist()
                if confidence == "softmax":
                    w = max(softmax(t))  # eq. (10)
                else:
                    w = max(sigmoid(value) for value in t)
                t = [value / temperature for value in t]
                s = [value / temperature for value in s]
                if kl == "softmax":
                    error = divergence(softmax(t), softmax(s))
                else:  # one Bernoulli distribution per class
                    bernoulli = [
                        [(sigmoid(value), 1 - sigmoid(value)) for value in values]
                        for values in (t, s)
                    ]
                    error = sum(divergence(p, q) for p, q in zip(*bernoulli, strict=True))
                error *= temperature**2 / (classes if kl_reduction == "mean" else 1)
                student_box = student.boxes[e, b, g].tolist()
                teacher_box = teacher.boxes[e, b, g].tolist()
                l1 = sum(abs(x - y) for x, y in zip(student_box, teacher_box, strict=True))
                l1 /= 4 if l1_reduction == "mean" else 1
                giou = literal_giou_loss(student_box, teacher_box)
                class_sum += w * weights[0] * error
                box_sum += w * (weights[1] * l1 + weights[2] * giou)
                sum_of_w += w
        if sum_of_w:
            total += class_sum / (sum_of_w if normalised == "all" else images)
            total += box_sum / (images if normalised == "none" else sum_of_w)
    return total * group.copies


class Pair(NamedTuple):
    """The arguments of the loss: predictions of student and teacher, and the groups."""

    student: Predictions
    teacher: Predictions
    groups: tuple[QueryGroup, ...]


def random_pair(layers=2, images=2, queries=3, classes=4, seed=0, valid=None, copies=1) -> Pair:
    """Predictions for one group."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, layers, images, queries, classes, generator=generator) * 2 - 1
    boxes = torch.rand(2, layers, images, queries, 4, generator=generator) * 0.5 + 0.2
    anchors = torch.rand(images, queries, 4)
    group = QueryGroup(torch.zeros(images, queries, 8), anchors, valid=valid, copies=copies)
    return Pair(Predictions(logits[0], boxes[0]), Predictions(logits[1], boxes[1]), (group,))


def joined(*pairs: Pair) -> Pair:
    """Several groups as one."""
    student, teacher = (
        Predictions(
            torch.cat([p.logits for p in predictions], dim=2),
            torch.cat([p.boxes for p in predictions], dim=2),
        )
        for predictions in list(zip(*pairs, strict=True))[:2]
    )
    return Pair(student, teacher, tuple(group for pair in pairs for group in pair.groups))


def total(losses):
    return sum(losses.values())


@settings(deadline=None, max_examples=25)
@given(
    layers=st.integers(1, 3),
    images=st.integers(1, 2),
    queries=st.integers(1, 4),
    classes=st.integers(1, 5),
    options=st.fixed_dictionaries(
        {
            "temperature": st.sampled_from([1.0, 4.0, 10.0]),
            "kl_reduction": st.sampled_from(["sum", "mean"]),
            "confidence": st.sampled_from(["softmax", "sigmoid"]),
            "kl": st.sampled_from(["softmax", "sigmoid"]),
            "normalised": st.sampled_from(["all", "boxes", "none"]),
            "l1_reduction": st.sampled_from(["sum", "mean"]),
        }
    ),
    copies=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_equals_the_literal_equation(layers, images, queries, classes, options, copies, seed):
    valid = torch.rand(images, queries, generator=torch.Generator().manual_seed(seed)) < 0.7
    pair = random_pair(layers, images, queries, classes, seed, valid, copies)
    expected = literal(pair, **options)
    got = total(LogitDistillLoss(**options)(*pair)).item()
    assert got == pytest.approx(expected, rel=1e-3, abs=1e-5)


def kd_detr_of_a_gpu(pair):
    """KD-DETR's public code on the images of one GPU: class, L1 and GIoU with weights 1, 5, 2."""
    student, teacher, _ = pair
    classes = student.logits.shape[-1]
    target = teacher.logits[-1].flatten(0, 1).tolist()
    target_boxes = teacher.boxes[-1].flatten(0, 1).tolist()
    weights = [max(sigmoid(value) for value in logits) for logits in target]
    cls = l1 = giou = 0.0
    for logits, boxes in zip(student.logits, student.boxes, strict=True):  # layer by layer
        for w, s, t, a, b in zip(
            weights,
            logits.flatten(0, 1).tolist(),
            target,
            boxes.flatten(0, 1).tolist(),
            target_boxes,
            strict=True,
        ):
            p, q = (softmax([value / 10 for value in x]) for x in (t, s))
            cls += w * 10**2 * divergence(p, q) / classes
            l1 += w * sum(abs(x - y) for x, y in zip(a, b, strict=True)) / 4 / sum(weights)
            giou += w * literal_giou_loss(a, b) / sum(weights)
    return {
        "loss_distill_class": cls,
        "loss_distill_bbox": 5 * l1,
        "loss_distill_giou": 2 * giou,
    }


def test_the_config_of_kd_detr_is_its_public_code():
    cfg = load_config("methods/kd_detr_dino_r18_kitti.py", [])
    loss = instantiate(cfg.model.logit_loss)
    pair = random_pair(layers=3, images=8, queries=5)  # 8 images on a GPU, as in its script
    got = {name: value.item() for name, value in loss(*pair).items()}
    assert got == pytest.approx(kd_detr_of_a_gpu(pair), rel=1e-3)


@pytest.mark.parametrize("config", ["dino_r18_kitti.py", "dab_detr_r18_coco.py"])
def test_full_size_configs_sum_over_queries_as_equation_9_does(config):
    loss = instantiate(load_config(config, []).model.logit_loss)
    pair = random_pair()
    got = total(loss(*pair)).item()
    assert got == pytest.approx(literal(pair, 1, "sum", "sigmoid", "softmax", "none"), rel=1e-4)


def test_groups_add_up():
    first, second = random_pair(seed=1), random_pair(queries=5, seed=2)
    loss = LogitDistillLoss(normalised="all")
    for key, value in loss(*joined(first, second)).items():
        torch.testing.assert_close(value, loss(*first)[key] + loss(*second)[key])


@pytest.mark.parametrize("kl", ["softmax", "sigmoid"])
def test_classification_gradient_reaches_the_student_and_never_the_teacher(kl):
    student, teacher, groups = random_pair()
    for tensor in (student.logits, teacher.logits, teacher.boxes):
        tensor.requires_grad_()
    LogitDistillLoss(kl=kl)(student, teacher, groups)["loss_distill_class"].backward()
    assert student.logits.grad.abs().sum() > 0
    assert teacher.logits.grad is None and teacher.boxes.grad is None


@pytest.mark.parametrize("kl", ["softmax", "sigmoid"])
def test_confident_logits_stay_finite(kl):
    student, teacher, groups = random_pair(1, 1, 1, 2)
    sure = torch.tensor([100.0, -100.0]).expand(1, 1, 1, 2)
    logits = (-sure).clone().requires_grad_()
    value = LogitDistillLoss(temperature=1.0, kl=kl)(
        Predictions(logits, student.boxes), Predictions(sure, teacher.boxes), groups
    )["loss_distill_class"]
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()


def test_filler_never_matters():
    valid = torch.tensor([[True, False, True], [True, True, False]])
    loss = LogitDistillLoss(normalised="all")
    student, teacher, groups = random_pair(valid=valid)
    expected = total(loss(student, teacher, groups))
    logits = student.logits.masked_fill(~valid[..., None], float("nan")).requires_grad_()
    boxes = student.boxes.masked_fill(~valid[..., None], 1e6).requires_grad_()
    torch.testing.assert_close(total(loss(Predictions(logits, boxes), teacher, groups)), expected)


def test_no_valid_query_gives_zero_and_finite_gradients():
    student, teacher, groups = random_pair(valid=torch.zeros(2, 3, dtype=torch.bool))
    student.logits.requires_grad_()
    value = total(LogitDistillLoss(normalised="all")(student, teacher, groups))
    value.backward()
    assert value.item() == 0 and student.logits.grad.isfinite().all()


def test_weights_scale_their_term_alone():
    pair = random_pair()
    base = LogitDistillLoss()(*pair)
    other = LogitDistillLoss(cls_weight=2.0, l1_weight=0.0, giou_weight=2.0)(*pair)
    torch.testing.assert_close(other["loss_distill_class"], 2 * base["loss_distill_class"])
    assert other["loss_distill_bbox"].item() == 0
    torch.testing.assert_close(other["loss_distill_giou"], base["loss_distill_giou"])


def test_other_numbers_of_layers_match_the_last_alone():
    student, teacher, groups = random_pair(layers=3)
    first_two = Predictions(teacher.logits[:2], teacher.boxes[:2])
    last = [Predictions(p.logits[-1:], p.boxes[-1:]) for p in (student, first_two)]
    loss = LogitDistillLoss()
    torch.testing.assert_close(loss(student, first_two, groups), loss(*last, groups))


def test_every_layer_may_be_matched_with_the_teachers_last():
    student, teacher, groups = random_pair(layers=3)
    got = LogitDistillLoss(layers="teacher_last")(student, teacher, groups)
    last = Predictions(teacher.logits[-1:], teacher.boxes[-1:])
    loss = LogitDistillLoss()
    each = [
        loss(Predictions(student.logits[e : e + 1], student.boxes[e : e + 1]), last, groups)
        for e in range(3)
    ]
    for key, value in got.items():
        torch.testing.assert_close(value, sum(losses[key] for losses in each))


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0},
        {"kl_reduction": "max"},
        {"confidence": "argmax"},
        {"kl": "tanh"},
        {"layers": "all"},
        {"normalised": "class"},
        {"l1_reduction": "max"},
    ],
)
def test_bad_options_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LogitDistillLoss(**options)
