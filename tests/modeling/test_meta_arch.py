"""The laws of distillation: a frozen teacher, an undisturbed student, finite and even gradients."""

import pytest
import torch
from torch import nn

from projects.clockdistill.modeling.adapters import DINOAdapter
from projects.clockdistill.modeling.losses import LogitDistillLoss, MemoryDistillLoss
from projects.clockdistill.modeling.meta_arch import DistillMetaArch
from projects.clockdistill.modeling.query_groups import (
    GeneralQueries,
    QueryGroups,
    SpecificQueries,
    TargetAwareQueries,
)
from projects.clockdistill.modeling.token_weights import TokenWeights
from tests.modeling.tiny_dino import NUM_CLASSES, assert_same_gradients, batch, tiny_dino

OFF = {"target_aware": None, "general": None, "specific": None}


def distiller(student=None, teacher=None, groups=None, **changes) -> DistillMetaArch:
    student = student or tiny_dino(seed=1)
    teacher = teacher or tiny_dino(seed=2)
    kinds = {
        "target_aware": TargetAwareQueries(NUM_CLASSES, 16),
        "general": GeneralQueries(5, 16),
        "specific": SpecificQueries(7),
    }
    arguments = {
        "query_groups": QueryGroups(**(kinds | (groups or {}))),
        "token_weights": TokenWeights(alpha=1e-2, beta=1e-2),
        "memory_loss": MemoryDistillLoss(student.embed_dim, teacher.embed_dim),
        "logit_loss": LogitDistillLoss(),
    }
    return DistillMetaArch(
        student, teacher, DINOAdapter(), DINOAdapter(), **(arguments | changes)
    ).train()


def step(model: nn.Module, inputs=None) -> dict[str, torch.Tensor]:
    """Losses of one step with a fixed denoising noise; gradients are left in the parameters."""
    model.zero_grad()
    torch.manual_seed(0)
    losses = model(inputs or batch())
    sum(losses.values()).backward()
    return losses


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: p.grad.clone()
        for name, p in model.named_parameters()
        if p.grad is not None and p.grad.any()
    }


def test_losses_are_the_students_own_and_the_distillation_terms():
    model = distiller()
    losses = step(model)
    student = tiny_dino(seed=1).train()
    torch.manual_seed(0)
    own = student(batch())
    assert {key for key in losses if key not in own} == {
        "loss_distill_memory",
        "loss_distill_class",
        "loss_distill_bbox",
        "loss_distill_giou",
    }
    torch.testing.assert_close({key: losses[key] for key in own}, own, rtol=1e-5, atol=1e-5)
    assert all(losses[key] > 0 for key in losses if "distill" in key)


def test_with_all_weights_zero_only_the_plain_student_trains():
    model = distiller(
        token_weights=TokenWeights(0, 0),
        logit_loss=LogitDistillLoss(cls_weight=0, l1_weight=0, giou_weight=0),
    )
    total = sum(step(model).values())
    student = tiny_dino(seed=1).train()
    plain = sum(step(student).values())
    torch.testing.assert_close(total, plain, rtol=1e-5, atol=1e-5)
    assert_same_gradients(gradients(model.student), gradients(student))


def test_the_teacher_stays_frozen_in_eval_and_unchanged():
    model = distiller()
    before = {key: value.clone() for key, value in model.teacher.state_dict().items()}
    model.train()
    assert model.student.training and not any(m.training for m in model.teacher.modules())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        step(model)
        optimizer.step()
    assert not any(p.requires_grad or p.grad is not None for p in model.teacher.parameters())
    for key, value in model.teacher.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_every_distillation_loss_moves_the_student():
    for wanted in ("memory", "class", "bbox", "giou"):
        model = distiller()
        torch.manual_seed(0)
        model(batch())[f"loss_distill_{wanted}"].backward()
        assert any("encoder" in name for name in gradients(model.student)), wanted


def test_target_aware_queries_are_never_trained():
    model = distiller()
    step(model)
    assert not any(p.grad is not None for p in model.query_groups.parameters())


@pytest.mark.parametrize("counts", [(0, 0), (0, 2)])
def test_without_objects_the_same_parameters_have_finite_gradients(counts):
    model = distiller()
    step(model)
    expected = {name for name, p in model.named_parameters() if p.grad is not None}
    losses = step(model, batch(counts))
    assert all(value.isfinite() for value in losses.values())
    got = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert set(got) == expected
    assert all(gradient.isfinite().all() for gradient in got.values())


def test_without_any_object_the_target_aware_queries_add_nothing():
    only = {"general": None, "specific": None}
    losses = step(distiller(groups=only), batch((0, 0)))
    assert losses["loss_distill_class"].item() == losses["loss_distill_bbox"].item() == 0


def test_three_copies_count_as_three_isolated_groups():
    only = {"general": None, "specific": None}
    one = step(distiller(groups=only | {"target_aware": TargetAwareQueries(3, 16, copies=1)}))
    three = step(distiller(groups=only | {"target_aware": TargetAwareQueries(3, 16, copies=3)}))
    # a jitter too small to move a box makes three real groups
    real = TargetAwareQueries(3, 16, copies=3, box_jitter=1e-12)
    explicit = step(distiller(groups=only | {"target_aware": real}))
    for key in ("loss_distill_class", "loss_distill_bbox", "loss_distill_giou"):
        torch.testing.assert_close(three[key], 3 * one[key])
        torch.testing.assert_close(explicit[key], three[key], rtol=1e-4, atol=1e-5)


def test_a_teacher_that_is_the_student_has_nothing_to_teach(monkeypatch):
    model = distiller(teacher=tiny_dino(seed=1))
    model.student.eval()  # batch statistics would differ from the teacher's running ones
    run = model.student_tap.run

    def without_detections(detector, inputs, groups):
        tapped = run(detector, inputs, groups)
        return type(tapped)({}, tapped.encoder, tapped.own_queries, tapped.own, tapped.groups)

    monkeypatch.setattr(model.student_tap, "run", without_detections)
    losses = model(batch())
    giou = losses.pop("loss_distill_giou")  # of tiny equal boxes, it is not quite 0
    torch.testing.assert_close(giou, torch.tensor(0.0), rtol=0, atol=1e-2)
    for value in losses.values():
        torch.testing.assert_close(value, torch.tensor(0.0), rtol=0, atol=1e-4)


def test_the_teacher_answers_without_its_own_queries_unless_they_are_asked_for(monkeypatch):
    seen = []
    for specific, expected in ((None, 5), (SpecificQueries(7), 7 + 5)):
        model = distiller(groups={"target_aware": None, "specific": specific})
        decoder = model.teacher.transformer.decoder
        decoder.register_forward_hook(
            lambda module, args, kwargs, output: seen.append(output[0].shape[2]),
            with_kwargs=True,
            prepend=True,
        )
        step(model)
        assert seen.pop() == expected


def test_memory_alone_needs_no_decoder_of_the_teacher():
    model = distiller(logit_loss=None)
    model.teacher.transformer.decoder.register_forward_pre_hook(
        lambda *_: pytest.fail("the teacher's decoder ran")
    )
    losses = step(model)
    assert "loss_distill_memory" in losses and "loss_distill_class" not in losses


def test_other_numbers_of_stages_distil_the_last_alone():
    short = distiller(student=tiny_dino(seed=1, num_layers=1), groups={"general": None})
    deep = distiller(teacher=tiny_dino(seed=2, num_layers=3), groups={"general": None})
    for model in (short, deep):
        losses = step(model)
        assert all(value.isfinite() for value in losses.values())


def test_padded_cells_of_the_memory_never_matter(monkeypatch):
    model = distiller(logit_loss=None)
    expected = step(model)["loss_distill_memory"]
    run = model.student_tap.run

    def spoil(detector, inputs, groups):
        tapped = run(detector, inputs, groups)
        encoder = tapped.encoder
        spoilt = encoder.memory.masked_fill(encoder.padding_mask[..., None], 1e3)
        encoder = type(encoder)(
            spoilt, encoder.padding_mask, encoder.spatial_shapes, encoder.valid_ratios
        )
        return type(tapped)(tapped.output, encoder, None, None, tapped.groups)

    monkeypatch.setattr(model.student_tap, "run", spoil)
    torch.testing.assert_close(step(model)["loss_distill_memory"], expected)


def test_evaluation_is_the_plain_students():
    model = distiller().eval()
    with torch.no_grad():
        got, expected = model(batch()), model.student(batch())
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a["instances"].scores, b["instances"].scores)


def test_mixed_precision_is_finite():
    model = distiller()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = step(model)
    assert all(value.isfinite() for value in losses.values())
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())


def test_what_resuming_needs_holds_no_teacher_and_no_student():
    model = distiller()
    keys = set(model.distill_modules.state_dict())
    assert any(key.startswith("query_groups.target_aware.label_embedding") for key in keys)
    assert not any("teacher" in key or "student" in key for key in keys)


def test_disagreeing_class_counts_are_refused():
    with pytest.raises(ValueError, match="student.num_classes=3 but teacher.num_classes=4"):
        distiller(teacher=tiny_dino(num_classes=4))


def test_other_widths_distil_the_memory_through_an_adaptation_layer():
    wide = tiny_dino(seed=2, embed_dim=32)
    with pytest.raises(ValueError, match="student.embed_dim=16 but teacher.embed_dim=32"):
        distiller(teacher=wide)
    model = distiller(teacher=wide, logit_loss=None)
    step(model)
    assert model.memory_loss.adaptation.weight.grad.any()
