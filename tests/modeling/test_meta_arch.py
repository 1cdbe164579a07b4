"""The laws of distillation: a frozen teacher, an unchanged student, finite gradients."""

from dataclasses import replace

import pytest
import torch
from detectron2.config import instantiate
from torch import nn

from projects.clockdistill.modeling.detectors.dab_detr.detector import DABDETR
from projects.clockdistill.modeling.detectors.predictions import Predictions
from projects.clockdistill.modeling.losses import (
    FeatureLosses,
    FGDLoss,
    FitNetLoss,
    LogitDistillLoss,
    MemoryDistillLoss,
    MGDLoss,
)
from projects.clockdistill.modeling.meta_arch import DistillMetaArch
from projects.clockdistill.modeling.query_groups import (
    GeneralQueries,
    QueryGroups,
    SpecificQueries,
    TargetAwareQueries,
)
from projects.clockdistill.modeling.token_weights import TokenWeights
from tests.modeling.tiny_detectors import (
    ADAPTERS,
    FAMILIES,
    NUM_CLASSES,
    assert_same_gradients,
    batch,
    tiny_config,
    tiny_detector,
)


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


def distiller(
    family="dino", student=None, teacher=None, teacher_family=None, groups=None, **changes
) -> DistillMetaArch:
    """All losses and all queries between two tiny detectors, but for the changes."""
    teacher_family = teacher_family or family
    student = student or tiny_detector(family, seed=1)
    teacher = teacher or tiny_detector(teacher_family, seed=2)
    width = teacher.embed_dim
    kinds = {
        "target_aware": TargetAwareQueries(NUM_CLASSES, width),
        "general": GeneralQueries(5, width, position_queries=True),
        "specific": SpecificQueries(7),
    }
    arguments = {
        "query_groups": QueryGroups(width, student.embed_dim, **(kinds | (groups or {}))),
        "token_weights": TokenWeights(alpha=1e-2, beta=1e-2),
        "memory_loss": MemoryDistillLoss(student.embed_dim, teacher.embed_dim),
        "logit_loss": LogitDistillLoss(),
        "feature_losses": FeatureLosses(),
    }
    adapters = ADAPTERS[family](), ADAPTERS[teacher_family]()
    return DistillMetaArch(student, teacher, *adapters, **(arguments | changes)).train()


def step(model: nn.Module, inputs=None) -> dict[str, torch.Tensor]:
    """Losses of one step with a fixed denoising noise; gradients are left in the parameters."""
    model.zero_grad()
    torch.manual_seed(0)
    losses = model(inputs or batch())
    sum(losses.values()).backward()
    return losses


def as_eval(model: DistillMetaArch) -> DistillMetaArch:
    """Lets a student in eval mode take a distillation step: it has no losses of its own there."""
    run = model.student_hooks.adapter.run
    model.student_hooks.adapter.run = lambda *args: run(*args) and {}
    return model


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: p.grad.clone()
        for name, p in model.named_parameters()
        if p.grad is not None and p.grad.any()
    }


def test_losses_are_the_students_own_and_the_distillation_terms(family):
    model = distiller(family)
    losses = step(model)
    student = tiny_detector(family, seed=1).train()
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


def test_with_all_weights_zero_only_the_plain_student_trains(family):
    model = distiller(
        family,
        token_weights=TokenWeights(0, 0),
        logit_loss=LogitDistillLoss(cls_weight=0, l1_weight=0, giou_weight=0),
    )
    total = sum(step(model).values())
    student = tiny_detector(family, seed=1).train()
    plain = sum(step(student).values())
    torch.testing.assert_close(total, plain, rtol=1e-5, atol=1e-5)
    assert_same_gradients(gradients(model.student), gradients(student))


def test_the_teacher_stays_frozen_in_eval_and_unchanged(family):
    model = distiller(family)
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


def test_every_distillation_loss_moves_the_student(family):
    for wanted in ("memory", "class", "bbox", "giou"):
        model = distiller(family)
        torch.manual_seed(0)
        model(batch())[f"loss_distill_{wanted}"].backward()
        assert any("encoder" in name for name in gradients(model.student)), wanted


@pytest.mark.parametrize("counts", [(0, 0), (0, 2)])
def test_without_objects_the_same_parameters_have_finite_gradients(family, counts):
    model = distiller(family)
    step(model)
    expected = {name for name, p in model.named_parameters() if p.grad is not None}
    losses = step(model, batch(counts))
    assert all(value.isfinite() for value in losses.values())
    got = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert set(got) == expected
    assert all(gradient.isfinite().all() for gradient in got.values())


def test_without_any_object_the_target_aware_queries_add_nothing(family):
    only = {"general": None, "specific": None}
    losses = step(distiller(family, groups=only), batch((0, 0)))
    assert losses["loss_distill_class"].item() == losses["loss_distill_bbox"].item() == 0


def test_three_copies_count_as_three_isolated_groups(family):
    only = {"general": None, "specific": None}
    one, three = (
        distiller(family, groups=only | {"target_aware": TargetAwareQueries(3, 16, copies=copies)})
        for copies in (1, 3)
    )
    explicit = distiller(family, groups=only)
    make = explicit.query_groups.forward
    explicit.query_groups.forward = lambda targets: tuple(
        replace(group, copies=1) for group in make(targets) for _ in range(3)
    )
    one, three, explicit = step(one), step(three), step(explicit)
    for key in ("loss_distill_class", "loss_distill_bbox", "loss_distill_giou"):
        torch.testing.assert_close(three[key], 3 * one[key])
        torch.testing.assert_close(explicit[key], three[key], rtol=1e-4, atol=1e-5)


def test_a_teacher_equal_to_the_student_gives_losses_of_zero(family):
    model = distiller(family, teacher=tiny_detector(family, seed=1))
    model.student.eval()  # batch statistics would differ from the teacher's running ones
    losses = {key: value for key, value in as_eval(model)(batch()).items() if "distill" in key}
    giou = losses.pop("loss_distill_giou")  # of tiny equal boxes, it is not quite 0
    torch.testing.assert_close(giou, torch.tensor(0.0), rtol=0, atol=1e-2)
    for value in losses.values():
        torch.testing.assert_close(value, torch.tensor(0.0), rtol=0, atol=1e-4)


def test_the_teacher_decodes_its_detector_queries_only_for_the_student(family):
    seen = []
    for specific, expected in ((None, 5), (SpecificQueries(7), 7 + 5)):
        model = distiller(family, groups={"target_aware": None, "specific": specific})
        decoder = model.teacher.transformer.decoder
        decoder.register_forward_hook(
            lambda module, args, kwargs, output: seen.append(output[0].shape[2]),
            with_kwargs=True,
            prepend=True,
        )
        step(model)
        assert seen.pop() == expected


def test_memory_alone_needs_no_decoder_of_the_teacher(family):
    model = distiller(family, logit_loss=None)
    model.teacher.transformer.decoder.register_forward_pre_hook(
        lambda *_: pytest.fail("the teacher's decoder ran")
    )
    losses = step(model)
    assert "loss_distill_memory" in losses and "loss_distill_class" not in losses


def test_other_numbers_of_layers_match_the_last_alone(family):
    """The losses are those of the last layers' predictions, which the hooks read on their own."""
    model = distiller(
        family,
        student=tiny_detector(family, seed=1, num_layers=2),
        teacher=tiny_detector(family, seed=2, num_layers=3),
        groups={"general": None},
    )
    losses = step(model)
    model = distiller(family, model.student, model.teacher, groups={"general": None})
    torch.manual_seed(0)
    targets = model.student.prepare_targets(batch())
    teacher = model.teacher_hooks.run(batch(), model.query_groups(targets))
    student = model.student_hooks.run(batch(), teacher.groups)
    last = [
        Predictions(run.predictions.logits[-1:], run.predictions.boxes[-1:])
        for run in (student, teacher)
    ]
    for key, expected in LogitDistillLoss()(*last, teacher.groups).items():
        torch.testing.assert_close(losses[key], expected)


def test_padded_cells_of_the_memory_never_matter(family):
    model = distiller(family, logit_loss=None)
    expected = step(model)["loss_distill_memory"]
    memory_loss, token_weights = model.memory_loss.forward, model.token_weights.forward
    masks = []
    model.token_weights.forward = lambda targets, levels: (
        masks.extend(levels) or token_weights(targets, levels)
    )

    def spoil(student, teacher, weights):
        padding = torch.cat([mask.flatten(1) for mask in masks], dim=1)[..., None]
        return memory_loss(student.masked_fill(padding, 1e3), teacher, weights)

    model.memory_loss.forward = spoil
    torch.testing.assert_close(step(model)["loss_distill_memory"], expected)
    assert any(mask.any() for mask in masks)


def test_evaluation_is_the_plain_students(family):
    model = distiller(family).eval()
    with torch.no_grad():
        got, expected = model(batch()), model.student(batch())
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a["instances"].scores, b["instances"].scores)


def test_mixed_precision_is_finite(family):
    model = distiller(family)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = step(model)
    assert all(value.isfinite() for value in losses.values())
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())


def test_what_resuming_needs_holds_no_teacher_and_no_student(family):
    model = distiller(family)
    keys = set(model.distill_modules.state_dict())
    assert any(key.startswith("query_groups.target_aware.label_embedding") for key in keys)
    assert not any("teacher" in key or "student" in key for key in keys)


def test_other_widths_are_bridged_by_layers_that_train_with_the_student(family):
    model = distiller(family, teacher=tiny_detector(family, seed=2, embed_dim=32))
    losses = step(model)
    assert all(value.isfinite() for value in losses.values())
    bridges = model.memory_loss.adaptation, model.query_groups.adaptation
    assert [tuple(bridge.weight.shape) for bridge in bridges] == [(32, 16), (16, 32)]
    assert all(bridge.weight.grad.any() for bridge in bridges)
    step(model, batch((0, 0)))
    assert all(bridge.weight.grad is not None for bridge in bridges)
    assert not any("adaptation" in key for key in model.student.state_dict())


def test_without_logit_distillation_no_parameter_waits_for_a_gradient(family):
    wide = tiny_detector(family, seed=2, embed_dim=32)
    model = distiller(family, teacher=wide, logit_loss=None)
    step(model)
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_a_student_may_have_another_number_of_queries(family):
    few = tiny_config(family)
    few.num_queries = 4
    model = distiller(family, student=instantiate(few))
    assert all(value.isfinite() for value in step(model).values())


@pytest.mark.parametrize(
    ("student", "teacher"), [("deformable_detr", "dino"), ("dino", "deformable_detr")]
)
def test_a_teacher_of_another_family_with_the_same_levels_is_distilled(student, teacher):
    specific = {} if teacher == "dino" else {"specific": None}
    model = distiller(student, teacher_family=teacher, groups=specific)
    losses = step(model)
    for wanted in ("memory", "class", "bbox", "giou"):
        assert losses[f"loss_distill_{wanted}"] > 0, wanted


def test_other_levels_can_share_their_logits_alone():
    with pytest.raises(ValueError, match="has 1 feature levels, the teacher 3.*memory_loss=null"):
        distiller("dab_detr", teacher_family="dino")
    losses = step(distiller("dab_detr", teacher_family="dino", memory_loss=None))
    assert losses["loss_distill_class"] > 0


def test_queries_without_sizes_are_refused_where_the_student_needs_them():
    with pytest.raises(ValueError, match="centres without sizes"):
        distiller("dino", teacher_family="deformable_detr")


def test_logit_distillation_without_queries_is_refused():
    off = {"target_aware": None, "general": None, "specific": None}
    with pytest.raises(ValueError, match=r"at least one of model\.query_groups"):
        distiller(groups=off)
    with pytest.raises(ValueError, match=r"at least one of model\.query_groups"):
        distiller(query_groups=None)


def test_queries_of_another_width_are_refused():
    with pytest.raises(ValueError, match="teacher_dim=8"):
        distiller(query_groups=QueryGroups(8, 16, TargetAwareQueries(NUM_CLASSES, 8)))


def test_disagreeing_class_counts_are_refused():
    with pytest.raises(ValueError, match="student.num_classes=3 but teacher.num_classes=4"):
        distiller(teacher=tiny_detector("dino", num_classes=4))


def test_a_teacher_of_other_classes_is_distilled_through_a_map():
    """As a teacher whose class heads are the mapped rows of the other's."""
    teacher = tiny_detector("dino", seed=2, num_classes=5)
    expected = tiny_detector("dino", seed=2, num_classes=3)
    state, index = teacher.state_dict(), torch.tensor([4, 0, 4])
    for name, value in expected.state_dict().items():
        value.copy_(state[name] if state[name].shape == value.shape else state[name][index])
    # the map goes behind the decoder: without specific queries its choice of proposals is the same
    groups = {"specific": None}
    got = step(distiller(teacher=teacher, class_map=[4, 0, 4], groups=groups))
    torch.testing.assert_close(got, step(distiller(teacher=expected, groups=groups)))


def feature_losses(student, teacher, **kinds):
    """Feature losses between two tiny detectors of the same levels."""
    levels = 1 if isinstance(student, DABDETR) else 3
    sizes = (student.embed_dim, teacher.embed_dim, levels)
    return FeatureLosses(**{name: kind(*sizes) for name, kind in kinds.items()})


@pytest.mark.parametrize("width", [16, 32])
def test_feature_losses_combine_and_need_no_transformer_of_the_teacher(family, width):
    student = tiny_detector(family, seed=1)
    teacher = tiny_detector(family, seed=2, embed_dim=width)
    losses = feature_losses(student, teacher, fitnet=FitNetLoss, fgd=FGDLoss, mgd=MGDLoss)
    model = distiller(
        family, student, teacher, memory_loss=None, logit_loss=None, feature_losses=losses
    )
    model.teacher.transformer.encoder.register_forward_pre_hook(
        lambda *_: pytest.fail("the teacher's encoder ran")
    )
    values = step(model)
    for name in ("fitnet", "fgd", "mgd"):
        assert values[f"loss_distill_{name}"] > 0, name
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert any("backbone" in name for name in gradients(model.student))
    assert any(
        key.startswith("feature_losses.losses.fgd") for key in model.distill_modules.state_dict()
    )


def test_feature_losses_need_the_same_levels():
    student, teacher = tiny_detector("dab_detr", seed=1), tiny_detector("dino", seed=2)
    losses = feature_losses(student, teacher, fitnet=FitNetLoss)
    with pytest.raises(ValueError, match="feature distillation need the same"):
        distiller("dab_detr", student, teacher, "dino", memory_loss=None, feature_losses=losses)
