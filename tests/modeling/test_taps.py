"""Taps: what they lend the decoder changes nothing of the detector's own."""

import pytest
import torch
from torch import nn

from projects.clockdistill.modeling.structures import QueryGroup
from projects.clockdistill.modeling.taps import DetectorTap
from tests.modeling.tiny_detectors import (
    ADAPTERS,
    FAMILIES,
    assert_same_gradients,
    batch,
    tiny_detector,
)


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def tap(family) -> DetectorTap:
    return DetectorTap(ADAPTERS[family]())


@pytest.fixture
def detector(family) -> nn.Module:
    return tiny_detector(family).eval()


def group(name, count=3, seed=0, valid=None, images=2, dim=16):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(images, count, 4, generator=generator) * 0.5 + 0.2
    content, position = torch.randn(2, images, count, dim, generator=generator)
    return QueryGroup(name, content, boxes, position, valid)


def train_losses(tap, detector, groups):
    """Losses and gradients of one training pass with a fixed denoising noise."""
    detector.train().zero_grad()
    torch.manual_seed(0)
    losses = tap.run(detector, batch(), groups).output
    sum(losses.values()).backward()
    return losses, {
        name: p.grad.clone() for name, p in detector.named_parameters() if p.requires_grad
    }


def test_appended_groups_change_neither_losses_nor_gradients(tap, detector):
    losses, gradients = train_losses(tap, detector, ())
    filler = torch.tensor([[True, False, True], [False, False, False]])
    with_losses, with_gradients = train_losses(
        tap, detector, (group("a"), group("b", seed=1, valid=filler))
    )
    torch.testing.assert_close(with_losses, losses, rtol=1e-5, atol=1e-5)
    assert_same_gradients(with_gradients, gradients)


def test_appended_groups_change_no_detection(tap, detector):
    with torch.no_grad():
        plain = detector(batch())
        tapped = tap.run(detector, batch(), (group("a"), group("b", seed=1))).output
    for before, after in zip(plain, tapped, strict=True):
        torch.testing.assert_close(
            after["instances"].pred_boxes.tensor, before["instances"].pred_boxes.tensor
        )
        torch.testing.assert_close(after["instances"].scores, before["instances"].scores)


def test_no_group_sees_another(tap, detector):
    a, b = group("a"), group("b", count=5, seed=1)
    with torch.no_grad():
        together = tap.read(detector, batch(), (a, b), own_queries=True).groups
        alone = [tap.read(detector, batch(), (g,), own_queries=False).groups[0] for g in (a, b)]
    for both, single in zip(together, alone, strict=True):
        torch.testing.assert_close(both.logits, single.logits, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(both.boxes, single.boxes, rtol=1e-5, atol=1e-5)


def test_the_queries_of_one_group_see_each_other(tap, detector):
    whole = group("a")
    part = QueryGroup(
        "a", whole.content[:, :1], whole.reference_points[:, :1], whole.position[:, :1]
    )
    with torch.no_grad():
        (among_three,) = tap.read(detector, batch(), (whole,), own_queries=False).groups
        (alone,) = tap.read(detector, batch(), (part,), own_queries=False).groups
    assert not torch.allclose(among_three.logits[:, :, :1], alone.logits, atol=1e-4)


def test_filler_changes_no_valid_query(tap, detector):
    short = group("a", count=2)
    padded = QueryGroup(
        "a",
        torch.cat([short.content, torch.full((2, 3, 16), 9.0)], dim=1),
        torch.cat([short.reference_points, torch.full((2, 3, 4), 0.9)], dim=1),
        torch.cat([short.position, torch.full((2, 3, 16), 9.0)], dim=1),
        torch.tensor([[True, True, False, False, False]] * 2),
    )
    with torch.no_grad():
        (expected,) = tap.read(detector, batch(), (short,), own_queries=False).groups
        (got,) = tap.read(detector, batch(), (padded,), own_queries=False).groups
    torch.testing.assert_close(got.logits[:, :, :2], expected.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.boxes[:, :, :2], expected.boxes, rtol=1e-5, atol=1e-5)


def test_exact_copies_give_equal_predictions(tap, detector):
    with torch.no_grad():
        first, second, third = tap.read(
            detector, batch(), (group("1"), group("2"), group("3")), own_queries=True
        ).groups
    torch.testing.assert_close(second.logits, first.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(third.boxes, first.boxes, rtol=1e-5, atol=1e-5)


def test_own_predictions_are_the_detectors_own(tap, detector):
    inputs = batch(counts=(2,), sizes=((64, 96),))
    with torch.no_grad():
        tapped = tap.read(detector, inputs, own_queries=True)
        detections = detector(inputs)[0]["instances"]
    best = tapped.own.logits[-1, 0].sigmoid().flatten().sort(descending=True).values
    torch.testing.assert_close(best[: len(detections)], detections.scores)
    # put to the decoder as a group, the own queries answer the same
    with torch.no_grad():
        (again,) = tap.read(detector, inputs, (tapped.own_queries,), own_queries=False).groups
    torch.testing.assert_close(again.logits, tapped.own.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(again.boxes, tapped.own.boxes, rtol=1e-5, atol=1e-5)


def test_the_memory_is_read_with_its_padding(tap, detector):
    with torch.no_grad():
        tapped = tap.read(detector, batch(), own_queries=False)
    levels = tapped.levels
    tokens = sum(height * width for height, width in levels.shapes)
    assert tapped.memory.shape == (2, tokens, 16)
    assert [tuple(level.shape[-2:]) for level in levels.features] == levels.shapes
    assert not levels.padding_mask[0].any() and levels.padding_mask[1].any()
    assert levels.valid_ratios.shape == (2, len(levels.shapes), 2)


@pytest.mark.parametrize("fails", [False, True])
def test_taps_leave_no_hook_behind(tap, detector, fails, monkeypatch):
    detector.train()
    if fails:

        def refuse(*args, **kwargs):
            raise RuntimeError("the criterion failed")

        monkeypatch.setattr(detector.criterion, "forward", refuse)
        with pytest.raises(RuntimeError, match="the criterion failed"):
            tap.run(detector, batch(), (group("a"),))
    else:
        tap.run(detector, batch(), (group("a"),))
    for module in detector.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
