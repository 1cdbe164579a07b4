"""A teacher whose weights are stored in half precision predicts what autocast predicts."""

import copy

import pytest
import torch

from projects.clockdistill.engine.half_weights import store_weights
from tests.modeling.tiny_detectors import FAMILIES, batch, tiny_detector


@pytest.mark.parametrize("family", FAMILIES)
def test_predictions_under_autocast_are_the_same_to_the_bit(family):
    teacher = tiny_detector(family).eval()
    stored = store_weights(copy.deepcopy(teacher), torch.bfloat16)
    assert any(p.dtype == torch.bfloat16 for p in stored.parameters())
    images, mask = teacher.preprocess_images(batch())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = teacher.predictions(images.tensor, mask)
        found = stored.predictions(images.tensor, mask)
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))
