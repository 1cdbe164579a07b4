"""Deformable-DETR and its variants: heads, references, losses, refusals."""

import copy

import pytest
import torch
from detectron2.config import instantiate
from omegaconf import OmegaConf
from torch import nn

from projects.clockdistill.modeling.detectors.deformable_detr.detector import DeformableDETR
from tests.modeling.detectors.deformable_variants import (
    PROPOSAL_LOSSES,
    QUERIES,
    VARIANTS,
    decoder_calls,
    fresh,
    shaken,
    variant_tree,
)
from tests.modeling.tiny_detectors import batch

LOSSES = {f"loss_{what}{stage}" for what in ("class", "bbox", "giou") for stage in ("", "_0")}


@pytest.fixture(params=VARIANTS)
def variant(request) -> str:
    return request.param


@pytest.fixture
def detector(variant) -> DeformableDETR:
    return shaken(variant)


@pytest.mark.parametrize("counts", [(2, 1), (3, 0), (0, 0)])
def test_losses_have_one_set_of_names_and_every_parameter_a_finite_gradient(
    detector, variant, counts
):
    losses = detector(batch(counts))
    assert losses.keys() == LOSSES | (PROPOSAL_LOSSES if variant == "two_stage" else set())
    sum(losses.values()).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_without_aux_loss_only_the_last_layer_is_supervised(detector):
    detector.aux_loss = False
    assert not {name for name in detector(batch()) if name.endswith("_0")}


@pytest.mark.parametrize(("variant", "heads"), [("plain", 1), ("refine", 2), ("two_stage", 3)])
def test_heads_are_one_without_refinement_and_one_per_stage_with_it(variant, heads):
    for detector in (fresh(variant), copy.deepcopy(fresh(variant))):
        for embed in (detector.class_embed, detector.bbox_embed):
            assert len(set(embed)) == heads
            assert len(embed) == max(heads, 2)  # two layers
        keys = detector.state_dict().keys()
        decoder = detector.transformer.decoder
        assert (decoder.bbox_embed is detector.bbox_embed) == (variant != "plain")
        assert ("transformer.decoder.bbox_embed.0.layers.0.weight" in keys) == (variant != "plain")
        assert ("transformer.decoder.class_embed.0.weight" in keys) == (variant == "two_stage")
        assert ("query_embedding.weight" in keys) == (variant != "two_stage")
        assert ("transformer.reference_points.weight" in keys) == (variant != "two_stage")


@pytest.mark.parametrize(
    ("variant", "size_biases"), [("plain", [-2, -2]), ("refine", [-2, 0]), ("two_stage", [0] * 3)]
)
def test_training_starts_from_boxes_of_one_size_at_the_reference_points(variant, size_biases):
    detector = fresh(variant)
    biases = [head.layers[-1].bias.tolist() for head in detector.bbox_embed]
    assert biases == [[0, 0, size, size] for size in size_biases]
    calls = decoder_calls(detector)
    output = []
    detector.transformer.register_forward_hook(lambda _, __, result: output.append(result))
    detector(batch())
    start = calls[0][0]["reference_points"]
    boxes = detector.apply_heads(output[0], last_only=False).boxes[0]
    if variant == "two_stage":
        expected = start  # squares around the tokens
    else:  # sigmoid(-2) = 0.1192
        expected = torch.cat((start, torch.full_like(start, 0.1192)), dim=-1)
    torch.testing.assert_close(boxes, expected, atol=2e-3, rtol=0)  # inverse_sigmoid saturates
    torch.testing.assert_close(detector.class_embed[0].bias.sigmoid(), torch.full((3,), 0.01))


def test_reference_points_stay_or_are_refined(detector, variant):
    calls = decoder_calls(detector)
    detector(batch())
    kwargs, (states, references) = calls[0]
    start = kwargs["reference_points"]
    assert start.shape == (2, QUERIES, 4 if variant == "two_stage" else 2)
    assert states.shape == (2, 2, QUERIES, 16)
    assert references.shape == (2, 2, QUERIES, 2 if variant == "plain" else 4)
    assert references.min() >= 0 and references.max() <= 1
    if variant == "plain":
        assert torch.equal(references, torch.stack((start, start)))
    else:
        assert not torch.allclose(references[0], references[1])
    assert references.requires_grad == (variant == "plain")


def test_a_stage_does_not_train_the_boxes_of_the_stage_before():
    detector = fresh("refine")
    nn.init.normal_(detector.bbox_embed[0].layers[-1].weight)
    detector(batch())["loss_bbox"].backward()
    assert not detector.bbox_embed[0].layers[-1].bias.grad.any()
    assert detector.bbox_embed[1].layers[-1].bias.grad.any()


def test_without_refinement_the_points_learn_from_all_layers():
    reached = []
    for name in ("loss_bbox", "loss_bbox_0"):
        detector = fresh("plain")
        detector(batch())[name].backward()
        reached.append(bool(detector.transformer.reference_points.bias.grad.any()))
    assert reached == [True, True]


def test_queries_of_two_stages_are_the_tokens_with_the_highest_first_logit():
    detector = fresh("two_stage")
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
    detector = fresh("two_stage")
    inputs = batch((2, 1))
    first = detector(inputs)
    for entry in inputs:
        entry["instances"].gt_classes = (entry["instances"].gt_classes + 1) % 3
    second = detector(inputs)
    for name in PROPOSAL_LOSSES:
        torch.testing.assert_close(first[name], second[name])
    assert not torch.allclose(first["loss_class"], second["loss_class"])


def test_calls_have_the_agreed_arguments(detector):
    seen = {}
    for name in ("encoder", "decoder"):
        getattr(detector.transformer, name).register_forward_pre_hook(
            lambda _, args, kwargs, name=name: seen.update({name: (args, kwargs)}), with_kwargs=True
        )
    detector.transformer.register_forward_pre_hook(lambda _, args: seen.update(transformer=args))
    detector(batch())
    common = {"query", "query_pos", "spatial_shapes", "reference_points"}
    assert seen["encoder"][0] == seen["decoder"][0] == ()
    assert seen["encoder"][1].keys() == common | {"query_key_padding_mask"}
    assert seen["decoder"][1].keys() == common | {
        "value",
        "valid_ratios",
        "key_padding_mask",
        "attn_masks",
    }
    assert seen["decoder"][1]["query_pos"].shape == seen["decoder"][1]["query"].shape
    features, masks, *_ = seen["transformer"]
    assert [f.shape[-2:] for f in features] == [m.shape[-2:] for m in masks]
    assert all(m.dtype == torch.bool for m in masks)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_trains_a_step_with_finite_losses(detector, dtype):
    with torch.autocast("cpu", dtype=dtype):
        losses = detector(batch())
    sum(losses.values()).backward()
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in detector.parameters())


def test_training_reduces_the_loss(detector):
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    history = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = sum(detector(batch()).values())
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert sum(history[-5:]) < 0.8 * sum(history[:5])


def test_detections_are_in_the_original_image(detector):
    inputs = [batch((1,), sizes=((64, 96),))[0] | {"height": 30, "width": 500}]
    instances = detector.eval()(inputs)[0]["instances"]
    assert instances.image_size == (30, 500)
    assert 0 < len(instances) <= QUERIES * 3
    assert (instances.scores.diff() <= 0).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"as_two_stage": True}, "needs with_box_refine=True"),
        ({"transformer.as_two_stage": True}, r"as_two_stage=False but .*=True"),
        ({"transformer.two_stage_num_proposals": 5}, r"num_queries=7 but .*=5"),
        ({"criterion.num_classes": 4}, r"num_classes=3 but .*=4"),
        (
            {"embed_dim": 18, "as_two_stage": True, "with_box_refine": True},
            "must be divisible by 4, got 18",
        ),
        ({"neck.num_outs": 4}, "neck gives 4 levels"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_values_that_disagree_are_refused(changes, words):
    tree = variant_tree("plain")
    for key, value in changes.items():
        OmegaConf.update(tree, key, value)
    if tree.embed_dim == 18:
        tree.neck.norm_layer.num_groups = 2
    with pytest.raises(ValueError, match=words):
        instantiate(tree)(batch())


def test_images_with_too_few_tokens_for_two_stages_are_refused():
    tree = variant_tree("two_stage")
    tree.num_queries = 60
    with pytest.raises(ValueError, match=r"=60, .* only \d+ tokens"):
        instantiate(tree)(batch((1,), sizes=((32, 48),)))
