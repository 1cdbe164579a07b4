"""Losses and gradients against hand computations, and a model that is left unchanged."""

import math

import pytest
import torch

from projects.clockdistill.analysis.loss_scales import (
    DETECTION,
    MEMORY,
    MEMORY_PARTS,
    Sample,
    measure,
    summarize,
)
from projects.clockdistill.analysis.spread import Spread
from projects.clockdistill.modeling.pseudo_targets import UNLABELLED
from tests.analysis.tiny_distiller import tiny_distiller
from tests.modeling.tiny_detectors import FAMILIES, batch


def measure_one(model: torch.nn.Module, inputs: list[dict]) -> dict[str, Sample]:
    return {name: found[0] for name, found in measure(model, [inputs]).items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_memory_loss_and_its_gradient_are_those_of_the_equation(family):
    model, inputs = tiny_distiller(family), batch()
    student = model.student_hooks.run(inputs)
    teacher = model.teacher_hooks.run(inputs)
    weights = model.token_weights(model.student.prepare_targets(inputs), student.masks)
    # eq. (5) over B = 2 images: sum w |s - t|^2 / 2, whose gradient is w (s - t)
    error = student.memory - teacher.memory
    value = (weights * error.square().sum(-1)).sum() / 2
    gradient = (weights[..., None] * error).norm()

    sample = measure_one(model, inputs)[MEMORY]
    assert sample.value == pytest.approx(value.item(), rel=1e-4)
    assert sample.at_memory == pytest.approx(gradient.item(), rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_of_a_feature_loss_is_that_of_its_equation(family):
    model, inputs = tiny_distiller(family, features=("fitnet",)), batch()
    student = model.student_hooks.run(inputs)
    teacher = model.teacher_hooks.run(inputs)
    targets = model.student.prepare_targets(inputs)
    # no other part of the student receives a gradient than the neck's features
    features = [level.detach().requires_grad_() for level in student.features]
    (loss,) = model.feature_losses(features, teacher.features, student.masks, targets).values()
    gradients = torch.autograd.grad(loss, features)

    sample = measure_one(model, inputs)["loss_distill_fitnet"]
    assert sample.value == pytest.approx(loss.item(), rel=1e-4)
    assert sample.at_memory is None
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    assert sample.at_neck == pytest.approx(norm.item(), rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_loss_is_measured(family):
    model = tiny_distiller(family, features=("fitnet",))
    torch.manual_seed(1)
    losses = model(batch())
    torch.manual_seed(1)  # of the denoising queries
    samples = measure_one(model, batch())

    own = [loss.item() for name, loss in losses.items() if "distill" not in name]
    assert samples[DETECTION].value == pytest.approx(sum(own), rel=1e-4)
    distilled = {name for name in losses if "distill" in name}
    assert samples.keys() == {DETECTION, *MEMORY_PARTS, *distilled}
    for name, sample in samples.items():
        assert sample.value > 0 and sample.at_neck > 0, name
        assert name == "loss_distill_fitnet" or sample.at_memory > 0, name


@pytest.mark.parametrize("family", FAMILIES)
def test_images_without_labels_have_samples_of_their_own_pass(family):
    model = tiny_distiller(family, features=("fitnet",))
    model.pseudo_targets.threshold = 0.01  # the tiny teachers are sure of little
    alone = measure_one(model, batch(seed=1))
    without_labels = [{**image, UNLABELLED: True} for image in batch(seed=2)]
    samples = measure_one(model, [*batch(seed=1), *without_labels])
    for name in MEMORY_PARTS:
        assert samples[name].value == pytest.approx(alone[name].value, rel=1e-4)
    for name in (MEMORY, *MEMORY_PARTS, "loss_distill_fitnet"):  # the others draw at random
        assert samples[name].at_neck == pytest.approx(alone[name].at_neck, rel=1e-4), name
    for name in ("memory", "class", "bbox", "giou", "fitnet"):
        sample = samples[f"loss_distill_{name}_unlabelled"]
        assert sample.value > 0 and sample.at_neck > 0, name
        assert name == "fitnet" or sample.at_memory > 0, name


def test_the_two_parts_of_the_memory_loss():
    model, inputs = tiny_distiller(), batch()
    samples = measure_one(model, inputs)
    foreground, background = (samples[name].value for name in MEMORY_PARTS)
    assert foreground + background == pytest.approx(samples[MEMORY].value, rel=1e-5)
    assert 0 < background < foreground

    model.token_weights.beta *= 3
    tripled = measure_one(model, inputs)
    assert [tripled[name].value for name in MEMORY_PARTS] == pytest.approx(
        [foreground, 3 * background], rel=1e-4
    )
    assert (model.token_weights.alpha, model.token_weights.beta) == (5e-5, 3e-7)


def test_a_loss_that_is_not_finite_is_refused_with_its_images():
    model, inputs = tiny_distiller(), batch()
    model.token_weights.alpha = math.inf
    inputs[0]["file_name"] = "bad.png"
    with pytest.raises(FloatingPointError, match=r"loss_distill_memory.* bad\.png.*Fix: check"):
        measure(model, [inputs])


@pytest.mark.parametrize("fails", [False, True], ids=["", "after an error"])
def test_the_model_is_left_unchanged(fails):
    model = tiny_distiller(features=("fitnet", "fgd", "mgd")).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def batches():
        yield batch()
        if fails:
            raise OSError("the disk is gone")
        yield batch(seed=1)

    if fails:
        with pytest.raises(OSError, match="the disk is gone"):
            measure(model, batches())
    else:
        measure(model, batches())
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    # training does change it
    model.train()(batch())
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert any("running_mean" in name for name in changed)
    assert any("draws.steps" in name for name in changed)


def samples(*values: float, at_memory: bool = True) -> list[Sample]:
    return [Sample(v, v / 10 if at_memory else None, v / 5) for v in values]


def test_medians_and_quartiles():
    detection, fitnet = summarize(
        {
            DETECTION: samples(10.0, 50.0, 20.0, 40.0, 30.0),
            "loss_distill_fitnet": samples(3.0, 1.0, 2.0, 4.0, 100.0, at_memory=False),
        }
    )
    assert detection.value == Spread(20, 30, 40) and detection.relative == 1
    assert detection.at_memory == Spread(2, 3, 4) and detection.at_neck == Spread(4, 6, 8)
    assert detection.relative_at_neck == 1
    # of medians, so one batch of 100 does not matter: 3 / 30
    assert fitnet.value == Spread(2, 3, 4) and fitnet.relative == 0.1
    # 3 / 5 at the neck, relative to 30 / 5
    assert fitnet.at_memory is None and fitnet.relative_at_neck == pytest.approx(0.1)
