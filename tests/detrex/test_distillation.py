"""Distilling detrex's detectors gives what distilling ours gives, step after step."""

import copy

import pytest
import torch
from torch import Tensor, nn

from projects.clockdistill.engine.ema import ModelEma
from projects.clockdistill.modeling.pseudo_targets import UNLABELLED
from tests.detrex.pairs import (
    FAMILIES,
    attend_to_padding,
    batch,
    detrex_config,
    distiller,
    our_config,
    same_weights,
)

pytestmark = pytest.mark.detrex

STEPS = 3


@pytest.fixture(scope="module", params=FAMILIES)
def models(request) -> tuple[nn.Module, nn.Module]:
    """Distillation between detrex's detectors, and between ours of the same weights."""
    theirs, ours = distiller(detrex_config, request.param), distiller(our_config, request.param)
    for role, seed in (("student", 1), ("teacher", 2)):
        same_weights(getattr(theirs, role), getattr(ours, role), seed)
        attend_to_padding(getattr(ours, role))
    return theirs, ours


def trained(model: nn.Module) -> list[dict[str, Tensor]]:
    """The losses of some steps of a copy on one batch, with the same noise for whoever comes."""
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    history = []
    for _ in range(STEPS):
        torch.manual_seed(0)
        optimizer.zero_grad()
        losses = model(batch())
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        history.append({name: loss.detach() for name, loss in losses.items()})
    return history


def test_steps_give_the_same_losses(models):
    theirs, ours = (trained(model) for model in models)
    distilled = {name for name in theirs[0] if name.startswith("loss_distill_")}
    assert len(distilled) == 4
    assert all(theirs[0][name] > 0 for name in distilled)
    assert sum(theirs[-1].values()) < 0.99 * sum(theirs[0].values())  # the steps count
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_images_without_labels(models):
    def losses(model: nn.Module, images: list[dict]) -> dict[str, Tensor]:
        model = copy.deepcopy(model).train()
        model.pseudo_targets.threshold = 0.0
        torch.manual_seed(0)
        return {name: loss.detach() for name, loss in model(images).items()}

    labelled, other = batch()[:2]
    mixed = [{**labelled, UNLABELLED: False}, {**other, UNLABELLED: True}]
    theirs, ours = (losses(model, mixed) for model in models)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    alone = losses(models[0], [labelled])
    torch.testing.assert_close({name: theirs[name] for name in alone}, alone)
    assert all(theirs[f"{name}_unlabelled"] > 0 for name in alone if "distill" in name)


def test_the_teacher_stays_frozen_in_eval_and_unchanged(models):
    model = copy.deepcopy(models[0]).train()
    before = copy.deepcopy(model.teacher.state_dict())
    noise = getattr(model.teacher, "dn_number", None)
    sum(model(batch()).values()).backward()
    assert not any(module.training for module in model.teacher.modules())
    assert model.student.training
    assert getattr(model.teacher, "dn_number", None) == noise
    assert not any(p.requires_grad or p.grad is not None for p in model.teacher.parameters())
    torch.testing.assert_close(model.teacher.state_dict(), before, rtol=0, atol=0)


def test_the_students_own_losses_are_undisturbed(models):
    model = copy.deepcopy(models[0]).train()
    torch.manual_seed(0)
    distilled = model(batch())
    torch.manual_seed(0)
    plain = model.student_hooks.run(batch()).output
    torch.testing.assert_close({name: distilled[name] for name in plain}, plain)


def test_one_side_may_be_detrexs_and_the_other_ours(models):
    theirs, ours = models
    torch.manual_seed(0)
    expected = copy.deepcopy(ours).train()(batch())
    mixed = copy.deepcopy(ours).train()
    mixed.teacher, mixed.teacher_hooks = theirs.teacher, theirs.teacher_hooks
    torch.manual_seed(0)
    torch.testing.assert_close(mixed(batch()), expected, rtol=1e-4, atol=1e-5)


def test_moving_average_of_a_student(models):
    student = copy.deepcopy(models[0].student)
    ema = ModelEma(student, decay=0.5)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1.01)
    ema.update_parameters(student)
    # the first step's decay is (1 + 0) / (10 + 0): nine tenths of the way
    name = "class_embed.weight" if "class_embed.weight" in before else "class_embed.0.weight"
    torch.testing.assert_close(ema.module.state_dict()[name], before[name] * 1.009)
    assert "instances" in ema.module.eval()(batch()[:1])[0]
