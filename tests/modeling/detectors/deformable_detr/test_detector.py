"""Deformable-DETR and its variants: heads, reference points, first stage."""

import copy

import pytest
import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.deformable_detr.detector import DeformableDETR
from tests.modeling.tiny_detectors import (
    QUERIES,
    VARIANTS,
    batch,
    tiny_detector,
    untrained_detector,
)

PLAIN, (REFINE, TWO_STAGE) = "deformable_detr", VARIANTS
PROPOSAL_LOSSES = {"loss_class_enc", "loss_bbox_enc", "loss_giou_enc"}


def decoder_calls(detector: DeformableDETR) -> list[tuple[dict, tuple[Tensor, Tensor]]]:
    """Returns a list that grows by arguments and output with every pass through the decoder."""
    calls = []
    detector.transformer.decoder.register_forward_hook(
        lambda _, __, kwargs, output: calls.append((kwargs, output)), with_kwargs=True
    )
    return calls


@pytest.mark.parametrize(("variant", "heads"), [(PLAIN, 1), (REFINE, 2), (TWO_STAGE, 3)])
def test_heads_are_one_without_refinement_and_one_per_layer_with_it(variant, heads):
    for detector in (untrained_detector(variant), copy.deepcopy(untrained_detector(variant))):
        for embed in (detector.class_embed, detector.bbox_embed):
            assert len(set(embed)) == heads
            assert len(embed) == max(heads, 2)  # two layers
        keys = detector.state_dict().keys()
        decoder = detector.transformer.decoder
        assert (decoder.bbox_embed is detector.bbox_embed) == (variant != PLAIN)
        assert ("transformer.decoder.bbox_embed.0.layers.0.weight" in keys) == (variant != PLAIN)
        assert ("transformer.decoder.class_embed.0.weight" in keys) == (variant == TWO_STAGE)
        assert ("query_embedding.weight" in keys) == (variant != TWO_STAGE)
        assert ("transformer.reference_points.weight" in keys) == (variant != TWO_STAGE)


@pytest.mark.parametrize(
    ("variant", "size_biases"), [(PLAIN, [-2, -2]), (REFINE, [-2, 0]), (TWO_STAGE, [0] * 3)]
)
def test_training_starts_from_boxes_of_one_size_at_the_reference_points(variant, size_biases):
    detector = untrained_detector(variant)
    biases = [head.layers[-1].bias.tolist() for head in detector.bbox_embed]
    assert biases == [[0, 0, size, size] for size in size_biases]
    calls = decoder_calls(detector)
    output = []
    detector.transformer.register_forward_hook(lambda _, __, result: output.append(result))
    detector(batch())
    start = calls[0][0]["reference_points"]
    boxes = detector.apply_heads(output[0], last_only=False).boxes[0]
    if variant == TWO_STAGE:
        expected = start  # squares around the tokens
    else:  # sigmoid(-2) = 0.1192
        expected = torch.cat((start, torch.full_like(start, 0.1192)), dim=-1)
    torch.testing.assert_close(boxes, expected, atol=2e-3, rtol=0)  # inverse_sigmoid saturates
    torch.testing.assert_close(detector.class_embed[0].bias.sigmoid(), torch.full((3,), 0.01))


@pytest.mark.parametrize("variant", [PLAIN, REFINE, TWO_STAGE])
def test_reference_points_stay_or_are_refined(variant):
    detector = tiny_detector(variant)
    calls = decoder_calls(detector)
    detector(batch())
    kwargs, (states, references) = calls[0]
    start = kwargs["reference_points"]
    assert start.shape == (2, QUERIES, 4 if variant == TWO_STAGE else 2)
    assert states.shape == (2, 2, QUERIES, 16)
    assert references.shape == (2, 2, QUERIES, 2 if variant == PLAIN else 4)
    assert references.min() >= 0 and references.max() <= 1
    if variant == PLAIN:
        assert torch.equal(references, torch.stack((start, start)))
    else:
        assert not torch.allclose(references[0], references[1])
    assert references.requires_grad == (variant == PLAIN)


def test_a_layer_does_not_train_the_boxes_of_the_layer_before():
    detector = untrained_detector(REFINE)
    nn.init.normal_(detector.bbox_embed[0].layers[-1].weight)
    detector(batch())["loss_bbox"].backward()
    assert not detector.bbox_embed[0].layers[-1].bias.grad.any()
    assert detector.bbox_embed[1].layers[-1].bias.grad.any()


def test_without_refinement_the_points_learn_from_all_layers():
    reached = []
    for name in ("loss_bbox", "loss_bbox_0"):
        detector = untrained_detector(PLAIN)
        detector(batch())[name].backward()
        reached.append(bool(detector.transformer.reference_points.bias.grad.any()))
    assert reached == [True, True]


def test_queries_of_two_stages_are_the_tokens_with_the_highest_first_logit():
    detector = untrained_detector(TWO_STAGE)
    with torch.no_grad():
        nn.init.normal_(detector.class_embed[-1].weight)
        detector.class_embed[-1].bias[1:] += 10  # other classes have no say
    calls, output = decoder_calls(detector), []
    detector.transformer.register_forward_hook(lambda _, __, result: output.append(result))
    detector(batch())
    logits, boxes = output[0].proposals.logits[0], output[0].proposals.boxes[0]
    chosen = logits[..., 0].topk(QUERIES, dim=1).indices
    expected = torch.stack([b[c] for b, c in zip(boxes, chosen, strict=True)])
    torch.testing.assert_close(calls[0][0]["reference_points"], expected)


def test_the_first_stage_knows_one_class_only():
    """Other labels change the decoder's losses, not the proposals'."""
    detector = untrained_detector(TWO_STAGE)
    inputs = batch((2, 1))
    first = detector(inputs)
    for entry in inputs:
        entry["instances"].gt_classes = (entry["instances"].gt_classes + 1) % 3
    second = detector(inputs)
    for name in PROPOSAL_LOSSES:
        torch.testing.assert_close(first[name], second[name])
    assert not torch.allclose(first["loss_class"], second["loss_class"])


def test_reference_points_are_float32_in_mixed_precision():
    detector = tiny_detector(PLAIN)
    calls = decoder_calls(detector)
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled), torch.no_grad():
            detector(batch())
    points = [kwargs["reference_points"] for kwargs, _ in calls]
    torch.testing.assert_close(points[1], points[0], rtol=0, atol=0)
