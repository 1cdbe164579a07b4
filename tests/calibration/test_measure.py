"""Losses and gradients against hand computations, and a model that is left as it was."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from projects.clockdistill.calibration.measure import DETECTION, MEMORY, MEMORY_PARTS, measure
from tests.calibration.tiny_distiller import tiny_distiller
from tests.modeling.tiny_detectors import FAMILIES, batch


class FakeStudent(nn.Module):
    """Features are the weights themselves; the encoder doubles them."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ParameterList([torch.tensor([1.0, 2.0]), torch.tensor([2.0])])
        self.encoder = Double()


class Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class FakeTransformer(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, features: list[Tensor], masks: None) -> Tensor:
        return self.encoder(torch.cat(features))


class FakeDistiller(nn.Module):
    """Detection 3 times the memory's sum plus 1, a feature loss: the squared features' sum."""

    def __init__(self) -> None:
        super().__init__()
        self.student = FakeStudent()
        self.transformer = FakeTransformer(self.student.encoder)
        adapter = SimpleNamespace(
            transformer=lambda student: self.transformer,
            encoder=lambda student: student.encoder,
            read_features=lambda args: (args[0], ()),
        )
        self.student_hooks = SimpleNamespace(adapter=adapter)
        self.token_weights = nn.Identity()
        self.memory_loss = None

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        features = [batched_inputs[0]["scale"] * x for x in self.student.features]
        memory = self.transformer(features, None)
        return {
            "loss_class": 3 * memory.sum(),
            "loss_distill_fitnet": sum(x.square().sum() for x in features),
            "loss_bbox": memory.new_ones(()),
        }


def test_figures_of_a_model_that_can_be_computed_by_hand():
    # Features (1, 2), (2): memory (2, 4, 4), detection 3 * 10 + 1 with gradient (3, 3, 3) at the
    # memory and (6, 6, 6) at the neck; feature loss 1 + 4 + 4 with gradient (2, 4, 4) at the neck.
    samples = measure(FakeDistiller(), [[{"scale": 1.0}], [{"scale": 2.0}]])
    assert list(samples) == [DETECTION, "loss_distill_fitnet"]
    first, second = samples[DETECTION]
    assert first.value == 31 and second.value == 61
    assert first.at_memory == pytest.approx(math.sqrt(27))
    assert first.at_neck == pytest.approx(math.sqrt(108))
    first, second = samples["loss_distill_fitnet"]
    assert first.value == 9 and second.value == 36
    assert first.at_memory is None and second.at_memory is None
    assert first.at_neck == pytest.approx(6) and second.at_neck == pytest.approx(12)


def test_what_is_not_finite_is_refused_with_the_images():
    with pytest.raises(FloatingPointError, match="detection, loss_distill_fitnet.*bad.png"):
        measure(FakeDistiller(), [[{"scale": math.inf, "file_name": "bad.png"}]])


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

    (sample,) = measure(model, [inputs])[MEMORY]
    assert sample.value == pytest.approx(value.item(), rel=1e-4)
    assert sample.at_memory == pytest.approx(gradient.item(), rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_loss_of_a_real_model_is_measured(family):
    model = tiny_distiller(family, features=("fitnet",))
    torch.manual_seed(1)
    losses = model(batch())
    torch.manual_seed(1)  # of the denoising queries
    samples = {name: found[0] for name, found in measure(model, [batch()]).items()}

    own = [loss.item() for name, loss in losses.items() if "distill" not in name]
    assert samples[DETECTION].value == pytest.approx(sum(own), rel=1e-4)
    distilled = {name for name in losses if "distill" in name}
    assert samples.keys() == {DETECTION, *MEMORY_PARTS, *distilled}
    assert samples["loss_distill_fitnet"].at_memory is None
    for name, sample in samples.items():
        assert sample.value > 0 and sample.at_neck > 0, name
        assert name == "loss_distill_fitnet" or sample.at_memory > 0, name


def test_the_memory_losss_parts_are_those_of_its_two_weights():
    model, inputs = tiny_distiller(), batch()
    samples = {name: found[0] for name, found in measure(model, [inputs]).items()}
    foreground, background = (samples[name].value for name in MEMORY_PARTS)
    assert foreground + background == pytest.approx(samples[MEMORY].value, rel=1e-5)
    assert 0 < background < foreground

    model.token_weights.beta *= 3
    tripled = {name: found[0] for name, found in measure(model, [inputs]).items()}
    assert [tripled[name].value for name in MEMORY_PARTS] == pytest.approx(
        [foreground, 3 * background], rel=1e-4
    )
    assert (model.token_weights.alpha, model.token_weights.beta) == (5e-5, 3e-7)


def test_the_model_is_left_as_it_was():
    model = tiny_distiller(features=("fitnet", "fgd", "mgd")).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure(model, [batch(), batch(seed=1)])
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training
    # the same model, so the same draws, and no hook that has stayed
    first, second = (measure(model, [batch()])["loss_distill_mgd"] for _ in range(2))
    assert first == second
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    # and it does change what training changes
    model.train()(batch())
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert any("running_mean" in name for name in changed)
    assert any("draws.steps" in name for name in changed)


def test_the_model_is_left_as_it_was_by_an_error_too():
    model = tiny_distiller().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def broken():
        yield batch()
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        measure(model, broken())
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert not model.training
