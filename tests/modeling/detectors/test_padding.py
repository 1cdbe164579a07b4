"""From the neck's output on, padding never matters: whatever stands in padded cells."""

import pytest
import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.levels import level_masks
from tests.modeling.tiny_dino import batch, tiny_dino

SIZES = ((64, 96), (48, 64))


class Observed:
    """A detector whose padded cells hold `garbage` behind the neck, and what it computed."""

    def __init__(self, detector: nn.Module, garbage: float | None):
        self.detector = detector
        self.garbage = garbage
        self.padding: Tensor | None = None
        self.memory: Tensor | None = None

    def __call__(self, inputs: list[dict]):
        _, mask = self.detector.preprocess_images(inputs)

        def fill(_, __, levels):
            masks = level_masks(mask, levels)
            self.padding = torch.cat([m.flatten(1) for m in masks], dim=1)
            if self.garbage is None:
                return levels
            generator = torch.Generator().manual_seed(0)
            noise = [self.garbage * torch.randn(x.shape, generator=generator) for x in levels]
            filled = zip(levels, masks, noise, strict=True)
            return [torch.where(m[:, None], n, x) for x, m, n in filled]

        def keep(_, __, memory):
            self.memory = memory

        hooks = [
            self.detector.neck.register_forward_hook(fill),
            self.detector.transformer.encoder.register_forward_hook(keep),
        ]
        with torch.random.fork_rng():  # denoising draws the same in every run
            torch.manual_seed(1)
            output = self.detector(inputs)
        for hook in hooks:
            hook.remove()
        return output


@pytest.fixture
def detector() -> nn.Module:
    detector = tiny_dino()
    detector.train()
    detector(batch(sizes=SIZES))  # the normalisation's running statistics leave their start
    return detector


@pytest.fixture
def runs(detector) -> tuple[Observed, Observed]:
    return Observed(detector, None), Observed(detector, 1e3)


def assert_same_valid_memory(clean: Observed, dirty: Observed):
    assert clean.padding.any() and not clean.padding.all()
    valid = ~clean.padding
    torch.testing.assert_close(dirty.memory[valid], clean.memory[valid], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(dirty.memory[~valid], clean.memory[~valid])  # the garbage was there


def test_memory_and_detections_in_eval_mode(detector, runs):
    detector.eval()
    with torch.no_grad():
        clean, dirty = (run(batch(sizes=SIZES)) for run in runs)
    assert_same_valid_memory(*runs)
    for one, other in zip(clean, dirty, strict=True):
        one, other = one["instances"], other["instances"]
        assert len(one) > 0
        torch.testing.assert_close(one.scores, other.scores, atol=1e-5, rtol=0)
        torch.testing.assert_close(
            one.pred_boxes.tensor, other.pred_boxes.tensor, atol=1e-3, rtol=1e-5
        )
        assert torch.equal(one.pred_classes, other.pred_classes)


def test_memory_losses_and_gradients_in_train_mode(detector, runs):
    gradients = []
    losses = []
    for run in runs:
        detector.load_state_dict(detector.state_dict())
        detector.zero_grad()
        losses.append(run(batch(sizes=SIZES)))
        sum(losses[-1].values()).backward()
        gradients.append({n: p.grad.clone() for n, p in detector.named_parameters()})
    assert_same_valid_memory(*runs)
    for name, loss in losses[0].items():
        torch.testing.assert_close(losses[1][name], loss, atol=1e-5, rtol=1e-5, msg=name)
    for name, gradient in gradients[0].items():
        difference = (gradients[1][name] - gradient).norm()
        assert difference <= 1e-4 * gradient.norm().clamp(min=1e-2), name


def test_nothing_that_is_no_number_leaks_from_the_padding(detector):
    detector.eval()
    run = Observed(detector, float("nan"))
    with torch.no_grad():
        results = run(batch(sizes=SIZES))
    assert run.memory[~run.padding].isfinite().all() and not run.memory.isfinite().all()
    assert all(len(r["instances"]) and r["instances"].scores.isfinite().all() for r in results)


def test_eval_masks_come_from_the_images_sizes(detector):
    """A smaller image in a batch gets the memory that a mask made by hand gives."""
    detector.eval()
    inputs = batch(sizes=SIZES)
    run = Observed(detector, None)
    with torch.no_grad():
        run(inputs)
        images, _ = detector.preprocess_images(inputs)
        mask = torch.ones(2, 64, 96, dtype=torch.bool)
        mask[0] = False
        mask[1, :48, :64] = False
        features = detector.neck(detector.backbone(images.tensor))
        masks = level_masks(mask, features)
        expected = run.memory
        hook = detector.transformer.encoder.register_forward_hook(
            lambda _, __, memory: setattr(run, "memory", memory)
        )
        detector.transformer(features, masks, [detector.position_embedding(m) for m in masks])
        hook.remove()
    torch.testing.assert_close(run.memory, expected)


def test_more_padding_changes_neither_memory_nor_proposals(detector):
    """One image's levels, and the same levels with more padding around them.

    The decoder's position queries do change: as in the public checkpoints they encode anchors in
    units of the padded finest level.
    """
    detector.eval()
    features = [torch.randn(1, detector.embed_dim, h, w) for h, w in ((8, 12), (4, 6), (2, 3))]
    run = Observed(detector, None)
    detector.transformer.encoder.register_forward_hook(
        lambda _, __, memory: setattr(run, "memory", memory)
    )

    def surrounded(extra: int) -> tuple[Tensor, Tensor, Tensor]:
        padded, masks = [], []
        for level, x in enumerate(features):
            size = (0, 2 * extra >> level, 0, extra >> level)
            valid = torch.zeros(1, *x.shape[-2:], dtype=torch.bool)
            padded.append(nn.functional.pad(x, size, value=1e3))
            masks.append(nn.functional.pad(valid, size, value=True))
        encodings = [detector.position_embedding(m) for m in masks]
        with torch.no_grad():
            output = detector.transformer(padded, masks, encodings)
        valid = ~torch.cat([m.flatten(1) for m in masks], dim=1)
        return run.memory[valid], output.proposal_logits, output.proposal_boxes

    for alone, padded in zip(surrounded(0), surrounded(8), strict=True):
        torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-5)
