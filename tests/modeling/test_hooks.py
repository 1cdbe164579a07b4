"""Forward hooks: appended query groups change nothing of the detector's own."""

import pytest
import torch
from torch import nn

from projects.clockdistill.modeling.hooks import DetectorHooks, DetectorRun
from projects.clockdistill.modeling.query_groups import QueryGroup, SpecificQueries
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
def detector(family) -> nn.Module:
    return tiny_detector(family).eval()


@pytest.fixture
def whole(family, detector) -> DetectorHooks:
    """Hooks of passes that run to their end."""
    return DetectorHooks(detector, ADAPTERS[family]())


@pytest.fixture
def decode(family, detector):
    """Runs the detector up to its decoder, on groups alone."""

    def run(*groups: QueryGroup) -> DetectorRun:
        hooks = DetectorHooks(detector, ADAPTERS[family](), "decoder")
        with torch.no_grad():
            return hooks.run(batch(), groups)

    return run


def group(count=3, seed=0, valid=None, images=2, dim=16):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(images, count, 4, generator=generator) * 0.5 + 0.2
    content, position = torch.randn(2, images, count, dim, generator=generator)
    return QueryGroup(content, boxes, position, valid)


def train_losses(hooks, groups):
    """Losses and gradients of one training pass with a fixed denoising noise."""
    hooks.detector.train().zero_grad()
    torch.manual_seed(0)
    losses = hooks.run(batch(), groups).output
    sum(losses.values()).backward()
    return losses, {
        name: p.grad.clone() for name, p in hooks.detector.named_parameters() if p.requires_grad
    }


def assert_close(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_appended_groups_change_neither_losses_nor_gradients(whole):
    losses, gradients = train_losses(whole, ())
    filler = torch.tensor([[True, False, True], [False, False, False]])
    with_losses, with_gradients = train_losses(whole, (group(), group(seed=1, valid=filler)))
    assert_close(with_losses, losses)
    assert_same_gradients(with_gradients, gradients)


def test_appended_groups_change_no_detection(whole, detector):
    with torch.no_grad():
        plain = detector(batch())
        appended = whole.run(batch(), (group(), group(seed=1))).output
    for before, after in zip(plain, appended, strict=True):
        torch.testing.assert_close(
            after["instances"].pred_boxes.tensor, before["instances"].pred_boxes.tensor
        )
        torch.testing.assert_close(after["instances"].scores, before["instances"].scores)


def test_no_group_sees_another_nor_the_detector_queries(whole, decode):
    a, b = group(), group(count=5, seed=1)
    together = decode(a, b).predictions
    with torch.no_grad():
        with_own = whole.run(batch(), (a, b)).predictions
    for name in ("logits", "boxes"):
        alone = [getattr(decode(g).predictions, name) for g in (a, b)]
        assert_close(getattr(together, name), torch.cat(alone, dim=2))
        assert_close(getattr(with_own, name), getattr(together, name))


def test_the_queries_of_one_group_see_each_other(decode):
    three = group()
    one = QueryGroup(three.content[:, :1], three.reference_points[:, :1], three.position[:, :1])
    among_three, alone = decode(three).predictions, decode(one).predictions
    assert not torch.allclose(among_three.logits[:, :, :1], alone.logits, atol=1e-4)


def test_filler_changes_no_valid_query(decode):
    short = group(count=2)
    padded = QueryGroup(
        torch.cat([short.content, torch.full((2, 3, 16), 9.0)], dim=1),
        torch.cat([short.reference_points, torch.full((2, 3, 4), 0.9)], dim=1),
        torch.cat([short.position, torch.full((2, 3, 16), 9.0)], dim=1),
        torch.tensor([[True, True, False, False, False]] * 2),
    )
    expected, got = decode(short).predictions, decode(padded).predictions
    assert_close(got.logits[:, :, :2], expected.logits)
    assert_close(got.boxes[:, :, :2], expected.boxes)


def test_filler_is_hidden_unless_a_group_has_nothing_else():
    valid = torch.tensor([[True, False, True], [False, False, False]])
    assert group(valid=valid).padding.tolist() == [[False, True, False], [False, False, False]]
    assert group().padding is None


@pytest.mark.parametrize("num_points", [4, 7])
def test_the_detector_queries_become_the_last_group(family, detector, num_points):
    inputs = batch(counts=(2,), sizes=((64, 96),))
    appended = group(images=1)
    hooks = DetectorHooks(detector, ADAPTERS[family](), "decoder", SpecificQueries(num_points))
    with torch.no_grad():
        run = hooks.run(inputs, (appended,))
        detections = detector(inputs)[0]["instances"]
    assert [len(g) for g in run.groups] == [3, num_points]
    own = run.predictions.logits[:, :, 3:]
    assert own.shape[2] == num_points
    if num_points < 7:
        return
    # all of them: what the detector predicts,
    best = own[-1, 0].sigmoid().flatten().sort(descending=True).values
    torch.testing.assert_close(best[: len(detections)], detections.scores)
    # and what they predict when they are appended themselves
    with torch.no_grad():
        again = DetectorHooks(detector, ADAPTERS[family](), "decoder").run(inputs, run.groups)
    assert_close(again.predictions.logits, run.predictions.logits)
    assert_close(again.predictions.boxes, run.predictions.boxes)


def test_features_and_memory_are_read_with_their_padding(whole):
    with torch.no_grad():
        run = whole.run(batch())
    tokens = sum(mask[0].numel() for mask in run.masks)
    assert run.memory.shape == (2, tokens, 16)
    assert [x.shape[-2:] for x in run.features] == [mask.shape[-2:] for mask in run.masks]
    assert not run.masks[0][0].any() and run.masks[0][1].any()
    assert run.predictions is None and run.groups == ()


@pytest.mark.parametrize("last", ["neck", "encoder"])
def test_a_pass_that_stops_runs_no_further(family, detector, last):
    transformer = detector.transformer
    following = transformer.encoder if last == "neck" else transformer.decoder
    following.register_forward_pre_hook(lambda *_: pytest.fail(f"ran on after the {last}"))
    run = DetectorHooks(detector, ADAPTERS[family](), last).run(batch())
    assert run.output is None and (run.memory is None) == (last == "neck")


@pytest.mark.parametrize("fails", [False, True])
def test_no_hook_stays_behind(whole, detector, fails, monkeypatch):
    detector.train()
    if fails:

        def refuse(*args, **kwargs):
            raise RuntimeError("the criterion failed")

        monkeypatch.setattr(detector.criterion, "forward", refuse)
        with pytest.raises(RuntimeError, match="the criterion failed"):
            whole.run(batch(), (group(),))
    else:
        whole.run(batch(), (group(),))
    for module in detector.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
