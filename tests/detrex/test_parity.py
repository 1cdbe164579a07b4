"""detrex's small detectors and ours, with one state dict, compute the same."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.opponents.detrex import built
from projects.clockdistill.modeling.adapters import (
    DetrexDABDETRAdapter,
    DetrexDeformableDETRAdapter,
    DetrexDINOAdapter,
)
from projects.clockdistill.modeling.structures import TappedForward
from projects.clockdistill.modeling.taps import DetectorTap
from tests.detrex.pairs import (
    FAMILIES,
    attend_to_padding,
    batch,
    detrex_tree,
    our_tree,
    same_weights,
)
from tests.modeling.tiny_detectors import ADAPTERS

pytestmark = pytest.mark.detrex

DETREX_ADAPTERS = {
    "dino": DetrexDINOAdapter,
    "dab_detr": DetrexDABDETRAdapter,
    "deformable_detr": DetrexDeformableDETRAdapter,
}


class Pair:
    """detrex's detector and ours, each with its tap."""

    def __init__(self, family: str):
        self.theirs, self.ours = built(detrex_tree(family)), built(our_tree(family))
        same_weights(self.theirs, self.ours)
        attend_to_padding(self.ours)
        self.their_tap = DetectorTap(DETREX_ADAPTERS[family]())
        self.our_tap = DetectorTap(ADAPTERS[family]())

    def run(self, inputs: list[dict[str, Any]]) -> tuple[TappedForward, TappedForward]:
        """Whole passes in train mode, with the same denoising noise."""
        outputs = []
        for tap, detector in ((self.their_tap, self.theirs), (self.our_tap, self.ours)):
            torch.manual_seed(0)
            outputs.append(tap.run(detector.train(), inputs))
        return outputs[0], outputs[1]


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request) -> Pair:
    return Pair(request.param)


def test_state_dicts_have_the_same_keys(pair):
    assert pair.theirs.state_dict().keys() == pair.ours.state_dict().keys()


def test_training_losses_and_memory(pair):
    theirs, ours = pair.run(batch())
    torch.testing.assert_close(ours.output, theirs.output, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.memory, theirs.memory, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours.levels.padding_mask, theirs.levels.padding_mask)
    assert ours.levels.padding_mask.any()


def test_images_without_objects(pair):
    for counts in ((0, 2), (0, 0)):
        theirs, ours = pair.run(batch(counts=counts))
        torch.testing.assert_close(ours.output, theirs.output, rtol=1e-5, atol=1e-6)


def test_gradients(pair):
    theirs, ours = pair.run(batch())
    pair.theirs.zero_grad(), pair.ours.zero_grad()
    sum(theirs.output.values()).backward(), sum(ours.output.values()).backward()
    expected, got = _gradients(pair.theirs), _gradients(pair.ours)
    assert got.keys() == expected.keys()
    largest = max(gradient.norm() for gradient in expected.values())
    for name, gradient in expected.items():  # of a bias of keys it is 0 but for rounding
        assert (got[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-7 * largest, name


def test_detections_of_one_image(pair):
    inputs = batch()[:1]
    with torch.no_grad():
        theirs = pair.theirs.eval()(inputs)[0]["instances"]
        ours = pair.ours.eval()(inputs)[0]["instances"]
    torch.testing.assert_close(ours.scores, theirs.scores, rtol=0, atol=1e-5)
    boxes = ours.pred_boxes.tensor, theirs.pred_boxes.tensor
    torch.testing.assert_close(*boxes, rtol=0, atol=2e-2)  # pixels
    assert torch.equal(ours.pred_classes, theirs.pred_classes)


def test_a_frozen_teacher_masks_padding_as_ours_does(pair):
    pair.theirs.eval(), pair.ours.eval()
    with torch.no_grad():
        theirs = pair.their_tap.read(pair.theirs, batch(), own_queries=True)
        ours = pair.our_tap.read(pair.ours, batch(), own_queries=True)
    torch.testing.assert_close(ours.memory, theirs.memory, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.own.logits, theirs.own.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.own.boxes, theirs.own.boxes, rtol=0, atol=1e-4)
    assert not any(module.training for module in pair.theirs.modules())


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
