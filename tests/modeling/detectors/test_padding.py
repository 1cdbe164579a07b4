"""From the neck's output on, padding never matters: whatever stands in padded cells."""

import pytest
import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.base import level_masks
from tests.modeling.tiny_detectors import FAMILIES, VARIANTS, batch, tiny_detector

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

        def fill(_, __, output):
            levels = [output] if isinstance(output, Tensor) else output
            masks = level_masks(mask, levels)
            self.padding = torch.cat([m.flatten(1) for m in masks], dim=1)
            if self.garbage is None:
                return output
            generator = torch.Generator().manual_seed(0)
            noise = [self.garbage * torch.randn(x.shape, generator=generator) for x in levels]
            filled = zip(levels, masks, noise, strict=True)
            filled = [torch.where(m[:, None], n, x) for x, m, n in filled]
            return filled[0] if isinstance(output, Tensor) else filled

        # DAB-DETR has a single level and a convolution for a neck.
        neck = getattr(self.detector, "neck", None) or self.detector.input_proj
        hooks = [
            neck.register_forward_hook(fill),
            self.detector.transformer.encoder.register_forward_hook(self.keep),
        ]
        with torch.random.fork_rng():  # denoising draws the same in every run
            torch.manual_seed(1)
            output = self.detector(inputs)
        for hook in hooks:
            hook.remove()
        return output

    def keep(self, _, __, memory: Tensor) -> None:
        """Batch first, which DAB-DETR's memory is not."""
        sequence_first = memory.shape[:2] != self.padding.shape
        self.memory = memory.transpose(0, 1) if sequence_first else memory


@pytest.fixture(params=[*FAMILIES, *VARIANTS])
def family(request) -> str:
    return request.param


@pytest.fixture
def detector(family) -> nn.Module:
    detector = tiny_detector(family)
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


# A dense attention multiplies the padded values by 0, which takes finite ones.
@pytest.mark.parametrize("family", ["dino", "deformable_detr", *VARIANTS])
def test_nothing_that_is_no_number_leaks_from_the_padding(detector):
    detector.eval()
    run = Observed(detector, float("nan"))
    with torch.no_grad():
        results = run(batch(sizes=SIZES))
    assert run.memory[~run.padding].isfinite().all() and not run.memory.isfinite().all()
    assert all(len(r["instances"]) and r["instances"].scores.isfinite().all() for r in results)


def surrounded(shapes: list[tuple[int, int]], width: int, extra: int):
    """One image's levels of features with so many more padded rows, twice so many columns."""
    generator = torch.Generator().manual_seed(0)
    features, masks = [], []
    for level, shape in enumerate(shapes):
        size = (0, 2 * extra >> level, 0, extra >> level)
        x = torch.randn(1, width, *shape, generator=generator)
        features.append(nn.functional.pad(x, size, value=1e3))
        valid = torch.zeros(1, *shape, dtype=torch.bool)
        masks.append(nn.functional.pad(valid, size, value=True))
    return features, masks


@pytest.mark.parametrize("family", ["dino", "deformable_detr_two_stage"])
def test_more_padding_changes_neither_memory_nor_proposals_nor_their_losses(detector):
    """One image's levels, and the same levels with more padding around them.

    DINO's position queries do change: as in the public checkpoints they encode anchors in units of
    the padded finest level.
    """
    detector.eval()
    run = Observed(detector, None)
    detector.transformer.encoder.register_forward_hook(run.keep)
    target = {"labels": torch.tensor([2]), "boxes": torch.tensor([[0.5, 0.5, 0.3, 0.3]])}
    found = []
    for extra in (0, 8):
        features, masks = surrounded([(8, 12), (4, 6), (2, 3)], detector.embed_dim, extra)
        run.padding = torch.cat([m.flatten(1) for m in masks], dim=1)
        positions = [detector.position_embedding(m) for m in masks]
        with torch.no_grad():
            output = detector.transform(features, masks, positions)
            predictions = detector.apply_heads(output, last_only=True)
            losses = detector.criterion(predictions, [target], output.proposals)
        of_proposals = {name: loss for name, loss in losses.items() if name.endswith("_enc")}
        found.append((run.memory[~run.padding], output.anchors[0], of_proposals))
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["dab_detr"])
def test_more_padding_changes_nothing_in_dab_detr(detector):
    """One image's level, and the same level with more padding around it, to the last box."""
    detector.eval()
    found = []
    for extra in (0, 8):
        (features,), (mask,) = surrounded([(4, 6)], detector.embed_dim, extra)
        with torch.no_grad():
            output = detector.transformer(
                features, mask, detector.anchor_box_embed.weight, detector.position_embedding(mask)
            )
        found.append(output)
    for alone, padded in zip(*found, strict=True):
        torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-5)
