"""Warnings at both ends, with the config keys and weights that help."""

from collections.abc import Callable

import pytest
from torch import nn

from projects.clockdistill.calibration.advice import WEIGHTS, advise, current_weights
from projects.clockdistill.calibration.measure import DETECTION, MEMORY_PARTS
from projects.clockdistill.calibration.scales import LossScale, Spread
from tests.calibration.tiny_distiller import METHODS, tiny_distiller


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """With all losses; memory weights 5e-5 and 1e-7, logit weights 1, 5, 2."""
    return tiny_distiller(features=tuple(METHODS))


@pytest.fixture
def warning(model: nn.Module) -> Callable[[str, float], str | None]:
    """The warning for a loss of this size beside the detection loss."""
    return lambda name, relative: advise(model, [scale(name, relative)]).get(name)


def scale(name: str, relative: float) -> LossScale:
    spread = Spread(relative, relative, relative)
    return LossScale(name, spread, relative, at_memory=None, at_neck=spread, relative_at_neck=1.0)


def test_a_loss_too_small_to_matter(warning):
    assert warning("loss_distill_memory", 0.001) == (
        "loss_distill_memory is 0.10% of the detection loss: model.token_weights.alpha=0.005 "
        "(now 5e-05) and model.token_weights.beta=1e-05 (now 1e-07) would make it 10%"
    )


def test_a_loss_that_drowns_the_labels(warning):
    assert warning("loss_distill_bbox", 20.0) == (
        "loss_distill_bbox is 20.0 times the detection loss: model.logit_loss.l1_weight=0.25 "
        "(now 5) would make it as large"
    )


@pytest.mark.parametrize("relative", [0.01, 0.1, 1.0, 10.0])
def test_within_the_range_nothing_is_said(warning, relative):
    assert warning("loss_distill_memory", relative) is None


@pytest.mark.parametrize("name", [DETECTION, *MEMORY_PARTS])
def test_what_is_no_distillation_loss_of_its_own_is_not_judged(warning, name):
    assert warning(name, 0.001) is None and warning(name, 100.0) is None


def test_losses_of_many_weights_keep_their_proportions(warning):
    text = warning("loss_distill_fgd", 0.005)  # 0.1 / 0.005 = 20
    for part in (
        "foreground_weight=0.02 (now 0.001)",
        "background_weight=0.01 (now 0.0005)",
        "attention_weight=0.01 (now 0.0005)",
        "global_weight=0.0001 (now 5e-06)",
    ):
        assert f"model.feature_losses.fgd.{part}" in text


def test_a_loss_of_0_says_why(warning):
    assert "which no weight would change" in warning("loss_distill_memory", 0.0)
    off = tiny_distiller()
    off.logit_loss.cls_weight = 0.0
    (text,) = advise(off, [scale("loss_distill_class", 0.0)]).values()
    assert text == "loss_distill_class is 0, switched off by model.logit_loss.cls_weight=0"
    # a weight that is 0 stays so, and is not advised
    off.token_weights.beta = 0.0
    (text,) = advise(off, [scale("loss_distill_memory", 0.001)]).values()
    assert "alpha=0.005 (now 5e-05) would" in text and "beta" not in text


def test_a_loss_of_unknown_weights_is_warned_about_too(warning):
    assert warning("loss_distill_new", 0.001) == (
        "loss_distill_new is 0.10% of the detection loss: a weight 1e+02 times what it is would "
        "make it 10%"
    )


def test_the_weights_of_every_loss_are_known(model):
    for name in WEIGHTS:
        assert all(current_weights(model, scale(f"loss_distill_{name}", 1.0)).values())
