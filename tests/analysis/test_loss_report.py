"""The table of loss scales, and warnings with the config keys and weights that help."""

import pytest
from torch import nn

from projects.clockdistill.analysis.loss_report import advise, current_weights, scales_table
from projects.clockdistill.analysis.loss_scales import DETECTION, MEMORY_PARTS, LossScale
from projects.clockdistill.analysis.spread import Spread
from projects.clockdistill.modeling.token_weights import TokenWeights
from tests.analysis.tiny_distiller import METHODS, tiny_distiller
from tests.modeling.tiny_detectors import batch


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """Returns a model with all losses; memory weights 5e-5 and 1e-7, logit weights 1, 5, 2."""
    return tiny_distiller(features=tuple(METHODS))


def warning(model: nn.Module, name: str, gradient: float, value: float = 0.5) -> str | None:
    """Returns the warning for a loss of these sizes relative to the detection loss."""
    spread = Spread(value, value, value)
    scale = LossScale(name, spread, value, None, spread, relative_at_neck=gradient)
    found = advise(model, [scale]).get(name)
    return found and found.text


@pytest.mark.parametrize(
    ("name", "gradient", "expected"),
    [
        (
            "memory",
            0.001,
            "is 0.10% of the detection loss's: model.token_weights.alpha=0.005 (now 5e-05) and "
            "model.token_weights.beta=1e-05 (now 1e-07) would make it 10%",
        ),
        (
            "bbox",
            20.0,
            "is 20.0 times the detection loss's: model.logit_loss.l1_weight=0.25 (now 5) would "
            "make it as large",
        ),
        (
            "fgd",  # 0.1 / 0.005 = 20: the weights keep their proportions
            0.005,
            "is 0.50% of the detection loss's: "
            "model.feature_losses.fgd.foreground_weight=0.02 (now 0.001) and "
            "model.feature_losses.fgd.background_weight=0.01 (now 0.0005) and "
            "model.feature_losses.fgd.attention_weight=0.01 (now 0.0005) and "
            "model.feature_losses.fgd.global_weight=0.0001 (now 5e-06) would make it 10%",
        ),
        (
            "unknown",
            0.001,
            "is 0.10% of the detection loss's: a weight 1e+02 times what it is would make it 10%",
        ),
    ],
)
def test_a_gradient_out_of_range(model, name, gradient, expected):
    loss = f"loss_distill_{name}"
    assert warning(model, loss, gradient) == f"the gradient of {loss} {expected}"


@pytest.mark.parametrize("gradient", [0.01, 0.1, 1.0, 2.0])
@pytest.mark.parametrize("value", [1e-4, 100.0])
def test_a_gradient_within_the_range(model, gradient, value):
    assert warning(model, "loss_distill_memory", gradient, value) is None


def test_a_loss_without_a_gradient_is_judged_by_its_value(model):
    assert warning(model, "loss_distill_giou", 0.0, 0.5) is None
    assert warning(model, "loss_distill_giou", 0.0, 4.0) == (
        "the value of loss_distill_giou is 4.0 times the detection loss's: "
        "model.logit_loss.giou_weight=0.5 (now 2) would make it as large"
    )
    assert warning(model, "loss_distill_giou", 0.0, 0.0) == (
        "loss_distill_giou is 0 on half of the batches or more, which no weight would change"
    )


def test_images_without_labels_are_judged_only_by_weights_of_their_own():
    model, names = tiny_distiller(), ("loss_distill_memory", "loss_distill_memory_unlabelled")
    spread = Spread(1.0, 1.0, 1.0)
    scales = [LossScale(name, spread, 1.0, None, spread, relative_at_neck=20.0) for name in names]
    assert current_weights(model, names[1]) == current_weights(model, names[0])
    assert advise(model, scales).keys() == {names[0]}

    model.unlabelled_token_weights = TokenWeights(alpha=0.2, beta=0.0)
    advice = advise(model, scales)
    # 1 / 20 of the weight makes it as large
    assert advice[names[1]].weights == {"model.unlabelled_token_weights.alpha": 0.01}


@pytest.mark.parametrize("name", [DETECTION, *MEMORY_PARTS])
def test_only_distillation_losses_are_judged(model, name):
    assert warning(model, name, 0.001) is None and warning(model, name, 100.0) is None


def test_weights_that_are_zero():
    off = tiny_distiller()
    off.logit_loss.cls_weight = 0.0
    assert warning(off, "loss_distill_class", 0.0, 0.0) == (
        "loss_distill_class is 0, switched off by model.logit_loss.cls_weight=0"
    )
    # a weight that is 0 stays so, and is not advised
    off.token_weights.beta = 0.0
    text = warning(off, "loss_distill_memory", 0.001)
    assert "alpha=0.005 (now 5e-05) would" in text and "beta" not in text


def test_the_weights_of_every_loss_scale_it(model):
    losses = [name for name in model(batch()) if "distill" in name]
    assert len(losses) == 4 + len(METHODS)
    for name in losses:
        assert all(current_weights(model, name).values())


SCALES = [
    LossScale("detection", Spread(20, 30, 40), 1.0, Spread(2, 3, 4), Spread(5, 6, 7), 1.0),
    LossScale("loss_distill_fitnet", Spread(1e-4, 2e-4, 3e-4), 0.005, None, Spread(1, 2, 3), 1 / 3),
]


def test_table():
    header, _, detection, fitnet = (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in scales_table(SCALES).splitlines()
    )
    assert header[3:] == ["gradient at memory", "gradient at neck", "of detection"]
    assert detection == [
        "detection", "30 (20 to 40)", "100.00%", "3 (2 to 4)", "6 (5 to 7)", "100.00%",
    ]  # fmt: skip
    assert fitnet[1:] == ["0.0002 (0.0001 to 0.0003)", "0.50%", "-", "2 (1 to 3)", "33.33%"]
