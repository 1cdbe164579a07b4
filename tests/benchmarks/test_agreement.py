"""The comparison of two sides before they are timed."""

import math

import pytest
import torch
from detectron2.structures import Boxes, Instances

from benchmarks.agreement import same_detections, same_detectors, same_figures, same_tensors
from benchmarks.models import build, detector_config, drawn_batch
from benchmarks.pair import QUICK, Disagreement


def found(count: int, shift: float = 0.0, moved: int = 0) -> Instances:
    """Detections 10 pixels apart; the first `moved` of them are elsewhere."""
    corners = torch.arange(count)[:, None] * 10.0 + torch.tensor([0.0, 0.0, 5.0, 5.0])
    corners[:moved] += 1000.0
    return Instances(
        (500, 500),
        pred_boxes=Boxes(corners + shift),
        scores=torch.linspace(0.1, 0.9, count),
        pred_classes=torch.arange(count) % 3,
    )


def test_tensors():
    values = torch.tensor([1.0, -4.0])
    # a difference of 0.03 and 0.04, of norm 0.05
    theirs = torch.tensor([3.03, 4.04])
    assert same_tensors("x", torch.tensor([3.0, 4.0]), theirs, 0.1) == pytest.approx(0.05 / 5.05)
    for other in (values + 1, values[:1], torch.tensor([1.0, math.nan])):
        with pytest.raises(Disagreement, match="x: "):
            same_tensors("x", other, values, 0.1)


def test_figures():
    same_figures({"a": 1.0, "b": math.nan}, {"a": 1.5, "b": math.nan}, 1)
    for other in ({"a": 3.0}, {"a": math.nan}, {"b": 1.0}):
        with pytest.raises(Disagreement):
            same_figures({"a": 1.0}, other, 1)


def test_a_few_detections_may_differ():
    agreement = same_detections(found(40), found(40, shift=0.5, moved=1))
    assert agreement["scores differ by"] == 0
    assert agreement["share of matched detections"] == pytest.approx(0.975)
    for other in (found(20, moved=3), found(20, shift=2.0), found(19)):
        with pytest.raises(Disagreement):
            same_detections(found(20), other)


def test_detectors():
    detector, other = (build(detector_config("dino", 18, QUICK)) for _ in range(2))
    image = drawn_batch(QUICK, 1)
    assert same_detectors(detector, other, image)["share of matched detections"] == 1
    torch.nn.init.normal_(other.transformer.level_embeds)
    with pytest.raises(Disagreement, match="encoder output"):
        same_detectors(detector, other, image)
