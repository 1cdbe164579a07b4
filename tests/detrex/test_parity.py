"""detrex's small detectors and ours, with one state dict, compute the same."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.opponents.detrex import built
from projects.clockdistill.modeling.hooks import DetectorHooks, DetectorRun
from projects.clockdistill.modeling.query_groups import SpecificQueries
from tests.detrex.pairs import (
    DETREX_ADAPTERS,
    FAMILIES,
    attend_to_padding,
    batch,
    detrex_config,
    our_config,
    same_weights,
)
from tests.modeling.tiny_detectors import ADAPTERS

pytestmark = pytest.mark.detrex


class Pair:
    """detrex's detector and ours, each with its hooks."""

    def __init__(self, family: str):
        self.theirs, self.ours = built(detrex_config(family)), built(our_config(family))
        same_weights(self.theirs, self.ours)
        attend_to_padding(self.ours)
        self.sides = (
            (self.theirs, DETREX_ADAPTERS[family]()),
            (self.ours, ADAPTERS[family]()),
        )

    def run(self, inputs: list[dict[str, Any]]) -> list[DetectorRun]:
        """Whole passes in train mode, with the same denoising noise."""
        runs = []
        for detector, adapter in self.sides:
            torch.manual_seed(0)
            runs.append(DetectorHooks(detector.train(), adapter).run(inputs))
        return runs

    def teach(self, inputs: list[dict[str, Any]]) -> list[DetectorRun]:
        """Passes of frozen teachers: up to the decoder, with their own queries."""
        with torch.no_grad():
            return [
                DetectorHooks(detector.eval(), adapter, "decoder", SpecificQueries(100)).run(inputs)
                for detector, adapter in self.sides
            ]


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request) -> Pair:
    return Pair(request.param)


def test_state_dicts_have_the_same_keys(pair):
    assert pair.theirs.state_dict().keys() == pair.ours.state_dict().keys()


def test_training_losses_and_memory(pair):
    theirs, ours = pair.run(batch())
    torch.testing.assert_close(ours.output, theirs.output, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.memory, theirs.memory, rtol=1e-4, atol=1e-5)
    assert all(map(torch.equal, ours.masks, theirs.masks))
    assert any(mask.any() for mask in ours.masks)


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
    theirs, ours = pair.teach(batch())
    torch.testing.assert_close(ours.memory, theirs.memory, rtol=1e-4, atol=1e-5)
    expected, got = theirs.predictions, ours.predictions
    torch.testing.assert_close(got.logits, expected.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got.boxes, expected.boxes, rtol=0, atol=1e-4)
    assert not any(module.training for module in pair.theirs.modules())


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
