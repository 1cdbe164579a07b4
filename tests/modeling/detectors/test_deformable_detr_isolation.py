"""In every variant of Deformable-DETR neither appended queries nor padding change the results."""

import copy

import pytest
import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.base import level_masks
from projects.clockdistill.modeling.detectors.deformable_detr.detector import DeformableDETR
from tests.modeling.detectors.deformable_variants import (
    PROPOSAL_LOSSES,
    QUERIES,
    VARIANTS,
    decoder_calls,
    fresh,
    shaken,
)
from tests.modeling.tiny_detectors import batch


@pytest.fixture(params=VARIANTS)
def detector(request) -> DeformableDETR:
    return shaken(request.param)


def isolated(extra: int, hidden: bool):
    """A decoder pre-hook that appends queries which the own ones may not see.

    Args:
        extra: how many.
        hidden: by the mask of padded queries instead of the attention mask.
    """

    def append(_, args, kwargs):
        query = kwargs["query"]
        size, own, _ = query.shape
        generator = torch.Generator().manual_seed(0)
        for name in ("query", "query_pos", "reference_points"):
            shape = (size, extra, kwargs[name].shape[-1])
            kwargs[name] = torch.cat((kwargs[name], torch.rand(shape, generator=generator)), 1)
        appended = torch.arange(own + extra) >= own
        if hidden:
            kwargs["query_key_padding_mask"] = appended.expand(size, -1)
        else:
            kwargs["attn_masks"] = [appended[:, None] != appended, None]
        return args, kwargs

    return append


@pytest.mark.parametrize("hidden", [False, True])
def test_appended_queries_that_are_isolated_change_nothing(detector, hidden):
    detector.eval()
    calls = decoder_calls(detector)
    with torch.no_grad():
        before = detector(batch())
        decoder = detector.transformer.decoder
        decoder.register_forward_pre_hook(isolated(3, hidden), with_kwargs=True)
        decoder.register_forward_hook(lambda _, __, out: tuple(x[:, :, :QUERIES] for x in out))
        after = detector(batch())
    for own, joined in zip(calls[0][1], calls[1][1], strict=True):
        assert joined.shape[2] == QUERIES + 3
        torch.testing.assert_close(joined[:, :, :QUERIES], own, atol=1e-5, rtol=1e-5)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one["instances"].scores, other["instances"].scores)


def test_queries_that_are_not_isolated_do_change_the_others(detector):
    detector.eval()
    calls = decoder_calls(detector)
    decoder = detector.transformer.decoder
    append = isolated(3, hidden=True)

    def visible(module, args, kwargs):
        args, kwargs = append(module, args, kwargs)
        return args, kwargs | {"query_key_padding_mask": None}

    with torch.no_grad():
        detector(batch())
        decoder.register_forward_pre_hook(visible, with_kwargs=True)
        decoder.register_forward_hook(lambda _, __, out: tuple(x[:, :, :QUERIES] for x in out))
        detector(batch())
    assert not torch.allclose(calls[0][1][0], calls[1][1][0][:, :, :QUERIES], atol=1e-4)


@pytest.mark.parametrize("garbage", [1e3, float("nan")])
def test_what_stands_in_the_padding_never_matters(detector, garbage):
    inputs = batch(sizes=((64, 96), (48, 64)))
    detector(inputs)  # the normalisation's running statistics leave their start
    _, mask = detector.preprocess_images(inputs)

    def fill(_, __, levels):
        masks = level_masks(mask, levels)
        return [x.masked_fill(m[:, None], garbage) for x, m in zip(levels, masks, strict=True)]

    def run() -> tuple[dict[str, Tensor], list[Tensor]]:
        model = copy.deepcopy(detector)  # a step changes the running statistics
        with torch.no_grad():
            losses = model.train()(inputs)
            found = [result["instances"] for result in model.eval()(inputs)]
        return losses, [x for one in found for x in (one.scores, one.pred_boxes.tensor)]

    clean_losses, clean = run()
    detector.neck.register_forward_hook(fill)
    losses, found = run()
    for name, loss in clean_losses.items():
        torch.testing.assert_close(losses[name], loss, atol=1e-5, rtol=1e-5, msg=name)
    for one, other in zip(found, clean, strict=True):
        assert len(one) > 0
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-5)


def test_padded_proposals_cost_nothing_and_are_not_chosen():
    """One image's levels, and the same with padding around them: the same proposals and queries."""
    detector = fresh("two_stage").eval()
    nn.init.normal_(detector.class_embed[-1].weight)
    calls = decoder_calls(detector)
    generator = torch.Generator().manual_seed(0)
    sizes = ((8, 12), (4, 6), (2, 3))
    features = [torch.randn(1, 16, h, w, generator=generator) for h, w in sizes]
    target = {"labels": torch.tensor([2]), "boxes": torch.tensor([[0.5, 0.5, 0.3, 0.3]])}
    losses = []
    for extra in (0, 8):
        padded, masks = [], []
        for level, x in enumerate(features):
            size = (0, 2 * extra >> level, 0, extra >> level)
            padded.append(nn.functional.pad(x, size, value=1e3))
            masks.append(nn.functional.pad(torch.zeros_like(x[:, 0]), size, value=1.0).bool())
        positions = [detector.position_embedding(m) for m in masks]
        with torch.no_grad():
            output = detector.transform(padded, masks, positions)
            predictions = detector.apply_heads(output, last_only=False)
            losses.append(detector.criterion(predictions, [target], output.proposals))
    alone, surrounded = (kwargs["reference_points"] for kwargs, _ in calls)
    torch.testing.assert_close(surrounded, alone, atol=1e-5, rtol=1e-5)
    for name in PROPOSAL_LOSSES:
        torch.testing.assert_close(losses[1][name], losses[0][name], atol=1e-5, rtol=1e-5)
