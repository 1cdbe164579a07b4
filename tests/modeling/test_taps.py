"""Taps: what they lend the decoder changes nothing of the detector's own."""

import pytest
import torch

from projects.clockdistill.modeling.adapters import DINOAdapter
from projects.clockdistill.modeling.structures import QueryGroup
from projects.clockdistill.modeling.taps import DetectorTap
from tests.modeling.tiny_dino import assert_same_gradients, batch, tiny_dino

TAP = DetectorTap(DINOAdapter())


def group(name, count=3, seed=0, valid=None, images=2, dim=16):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(images, count, 4, generator=generator) * 0.5 + 0.2
    return QueryGroup(name, torch.randn(images, count, dim, generator=generator), boxes, valid)


def train_losses(detector, groups):
    """Losses and gradients of one training pass with a fixed denoising noise."""
    detector.train().zero_grad()
    torch.manual_seed(0)
    losses = TAP.run(detector, batch(), groups).output
    sum(losses.values()).backward()
    return losses, {name: p.grad.clone() for name, p in detector.named_parameters()}


def test_appended_groups_change_neither_losses_nor_gradients():
    detector = tiny_dino()
    losses, gradients = train_losses(detector, ())
    filler = torch.tensor([[True, False, True], [False, False, False]])
    with_losses, with_gradients = train_losses(
        detector, (group("a"), group("b", seed=1, valid=filler))
    )
    torch.testing.assert_close(with_losses, losses, rtol=1e-5, atol=1e-5)
    assert_same_gradients(with_gradients, gradients)


def test_appended_groups_change_no_detection():
    detector = tiny_dino().eval()
    with torch.no_grad():
        plain = detector(batch())
        tapped = TAP.run(detector, batch(), (group("a"), group("b", seed=1))).output
    for before, after in zip(plain, tapped, strict=True):
        torch.testing.assert_close(
            after["instances"].pred_boxes.tensor, before["instances"].pred_boxes.tensor
        )
        torch.testing.assert_close(after["instances"].scores, before["instances"].scores)


def test_no_group_sees_another():
    detector = tiny_dino().eval()
    a, b = group("a"), group("b", count=5, seed=1)
    with torch.no_grad():
        together = TAP.read(detector, batch(), (a, b), own_queries=True).groups
        alone = [TAP.read(detector, batch(), (g,), own_queries=False).groups[0] for g in (a, b)]
    for both, single in zip(together, alone, strict=True):
        torch.testing.assert_close(both.logits, single.logits, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(both.boxes, single.boxes, rtol=1e-5, atol=1e-5)


def test_the_queries_of_one_group_see_each_other():
    detector = tiny_dino().eval()
    whole = group("a")
    part = QueryGroup("a", whole.content[:, :1], whole.reference_points[:, :1])
    with torch.no_grad():
        (among_three,) = TAP.read(detector, batch(), (whole,), own_queries=False).groups
        (alone,) = TAP.read(detector, batch(), (part,), own_queries=False).groups
    assert not torch.allclose(among_three.logits[:, :, :1], alone.logits, atol=1e-4)


def test_filler_changes_no_valid_query():
    detector = tiny_dino().eval()
    short = group("a", count=2)
    padded = QueryGroup(
        "a",
        torch.cat([short.content, torch.full((2, 3, 16), 9.0)], dim=1),
        torch.cat([short.reference_points, torch.full((2, 3, 4), 0.9)], dim=1),
        torch.tensor([[True, True, False, False, False]] * 2),
    )
    with torch.no_grad():
        (expected,) = TAP.read(detector, batch(), (short,), own_queries=False).groups
        (got,) = TAP.read(detector, batch(), (padded,), own_queries=False).groups
    torch.testing.assert_close(got.logits[:, :, :2], expected.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.boxes[:, :, :2], expected.boxes, rtol=1e-5, atol=1e-5)


def test_exact_copies_give_equal_predictions():
    detector = tiny_dino().eval()
    with torch.no_grad():
        first, second, third = TAP.read(
            detector, batch(), (group("1"), group("2"), group("3")), own_queries=True
        ).groups
    torch.testing.assert_close(second.logits, first.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(third.boxes, first.boxes, rtol=1e-5, atol=1e-5)


def test_own_predictions_are_the_detectors_own():
    detector = tiny_dino().eval()
    inputs = batch(counts=(2,), sizes=((64, 96),))
    with torch.no_grad():
        tapped = TAP.read(detector, inputs, own_queries=True)
        detections = detector(inputs)[0]["instances"]
    best = tapped.own.logits[-1, 0].sigmoid().flatten().sort(descending=True).values
    torch.testing.assert_close(best[: len(detections)], detections.scores)
    # put to the decoder as a group, the own queries answer the same
    asked = QueryGroup("own", tapped.own_queries.content, tapped.own_queries.reference_points)
    with torch.no_grad():
        (again,) = TAP.read(detector, inputs, (asked,), own_queries=False).groups
    torch.testing.assert_close(again.logits, tapped.own.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(again.boxes, tapped.own.boxes, rtol=1e-5, atol=1e-5)


def test_the_encoder_is_read_with_its_padding():
    detector = tiny_dino().eval()
    with torch.no_grad():
        encoder = TAP.read(detector, batch(), own_queries=False).encoder
    batch_size, tokens, dim = encoder.memory.shape
    assert (batch_size, dim) == (2, 16)
    assert encoder.spatial_shapes.prod(1).sum() == tokens
    assert not encoder.padding_mask[0].any() and encoder.padding_mask[1].any()
    assert encoder.valid_ratios.shape == (2, len(encoder.spatial_shapes), 2)


@pytest.mark.parametrize("fails", [False, True])
def test_taps_leave_no_hook_behind(fails, monkeypatch):
    detector = tiny_dino().train()
    if fails:

        def refuse(*args, **kwargs):
            raise RuntimeError("the criterion failed")

        monkeypatch.setattr(detector.criterion, "forward", refuse)
        with pytest.raises(RuntimeError, match="the criterion failed"):
            TAP.run(detector, batch(), (group("a"),))
    else:
        TAP.run(detector, batch(), (group("a"),))
    for module in detector.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
