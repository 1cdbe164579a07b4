"""What is read of encoder and decoder is what they computed with, and nothing is changed by it."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from projects.clockdistill.errors import UserError
from projects.clockdistill.modeling.detectors.layers.attention import SelfAttention
from projects.clockdistill.modeling.detectors.layers.deformable_attention import DeformableAttention
from projects.clockdistill.visualization.attention.maps import tokens_at
from projects.clockdistill.visualization.attention.reading import read, sampled_tokens
from tests.modeling.tiny_detectors import FAMILIES, VARIANTS, batch, tiny_detector

SHAPES = [(3, 5), (2, 3)]  # 21 tokens


def hook_count(model: nn.Module) -> int:
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._forward_hooks_with_kwargs)
        for m in model.modules()
    )


@pytest.mark.parametrize("name", [*FAMILIES, *VARIANTS])
def test_reading_changes_no_output_and_leaves_no_hook(name) -> None:
    detector = tiny_detector(name).eval()
    with torch.no_grad():
        expected = [found["instances"] for found in detector(batch())]
    for image in range(2):
        found = read(detector, batch(), image).detections
        for field, values in expected[image].get_fields().items():
            values, read_values = (
                x.tensor if field == "pred_boxes" else x for x in (values, found.get(field))
            )
            assert torch.equal(values, read_values)
    assert hook_count(detector) == 0


@pytest.mark.parametrize("name", [*FAMILIES, *VARIANTS])
def test_no_hook_is_left_after_a_failure(name) -> None:
    detector = tiny_detector(name).eval()
    with pytest.raises(ValueError, match="expected an image of shape"):
        read(detector, [{"image": torch.zeros(1, 4, 4)}])
    assert hook_count(detector) == 0


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_weights_sum_to_one_and_padding_has_none(name, part) -> None:
    reading = read(tiny_detector(name).eval(), batch(), image=1)  # padded on two sides
    padding = torch.cat([mask.flatten() for mask in reading.masks])
    assert padding.any()
    for layer in range(len(reading.calls[part])):
        seen = reading.attention(part, layer, [0, 3])
        assert seen.tokens.shape == (reading.num_heads(part), len(padding))
        assert (seen.tokens[:, padding] == 0).all()
        assert (seen.tokens >= 0).all()
        if name == "dab_detr":
            torch.testing.assert_close(seen.tokens.sum(-1), torch.ones(reading.num_heads(part)))
        else:
            torch.testing.assert_close(
                seen.weights.sum((-1, -2)), torch.ones(2, reading.num_heads(part))
            )
            assert (seen.tokens.sum(-1) <= 1 + 1e-5).all()


def literal_sample(value: torch.Tensor, weights: torch.Tensor, locations: torch.Tensor):
    """Eq. (3) of Deformable DETR for one query and head: bilinear, cells outside count as 0.

    Returns the sum (C,) and the weight of each token (S,).
    """
    counts, start = torch.zeros(len(value)), 0
    for level, (height, width) in enumerate(SHAPES):
        for point in range(weights.shape[1]):
            # the centre of cell i is at (i + 0.5) / size
            x, y = (locations[level, point] * torch.tensor([width, height]) - 0.5).tolist()
            for row in (int(np.floor(y)), int(np.floor(y)) + 1):
                for column in (int(np.floor(x)), int(np.floor(x)) + 1):
                    if 0 <= row < height and 0 <= column < width:
                        share = (1 - abs(row - y)) * (1 - abs(column - x))
                        token = start + row * width + column
                        counts[token] += share * float(weights[level, point])
        start += height * width
    return counts @ value, counts


def test_deformable_sampling_is_what_the_module_computes() -> None:
    module = DeformableAttention(embed_dim=8, num_heads=2, num_levels=2, num_points=3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    query, memory = torch.randn(1, 2, 8), torch.randn(1, 21, 8)
    references = torch.rand(1, 2, 2, 2)
    with torch.no_grad():
        expected = module(query, memory, references, SHAPES)
        locations, weights = module.sampling(query, references, SHAPES)
        values = module.value_proj(memory)[0].view(21, 2, 4)
        tokens = torch.zeros(2, 21)
        for index in range(2):
            parts = []
            for head in range(2):
                where, weight = locations[0, index, head], weights[0, index, head]
                part, counts = literal_sample(values[:, head], weight, where)
                parts.append(part)
                tokens[head] += counts
            output = module.output_proj(torch.cat(parts))
            torch.testing.assert_close(output, expected[0, index], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        sampled_tokens(SHAPES, locations, weights), tokens, atol=1e-5, rtol=1e-4
    )
    assert tokens.sum() < 4 - 1e-3  # some points lie outside: otherwise this tests less


def test_dense_encoder_weights_are_those_of_multi_head_attention() -> None:
    detector = tiny_detector("dab_detr").eval()
    reading = read(detector, batch(), image=1)
    call = reading.calls["encoder"][0]
    assert isinstance(call.module, SelfAttention)
    query = call.arguments["query"]
    positioned = query + call.arguments["query_pos"]
    with torch.no_grad():
        _, expected = call.module.attn(
            positioned,
            positioned,
            query,
            key_padding_mask=call.arguments["key_padding_mask"],
            average_attn_weights=False,
        )  # (B, M, S, S)
    for token in (0, 5):
        found = reading.attention("encoder", 0, [token]).tokens
        torch.testing.assert_close(found, expected[1, :, token], atol=1e-6, rtol=1e-4)


def test_dense_decoder_weights_give_what_the_module_returns() -> None:
    detector = tiny_detector("dab_detr").eval()
    reading = read(detector, batch(), image=1)
    for layer, call in enumerate(reading.calls["decoder"]):
        with torch.no_grad():
            expected = call.module(**call.arguments)[1, 4]
            values = call.module.value_proj(call.arguments["memory"])[1]
            weights = reading.attention("decoder", layer, [4]).tokens  # (M, S)
            mixed = torch.einsum("ms,smc->mc", weights, values.unflatten(-1, (2, -1)))
            output = call.module.out_proj(mixed.flatten())
        torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [*FAMILIES, *VARIANTS])
def test_a_detection_names_its_query(name) -> None:
    detector = tiny_detector(name).eval()
    inputs = batch()
    images, mask = detector.preprocess_images(inputs)
    with torch.no_grad():
        logits, boxes = detector.predictions(images.tensor, mask)
    found = read(detector, inputs, image=1).detections
    height, width = found.image_size
    x, y, w, h = boxes[1, found.pred_queries].unbind(-1)
    corners = torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), -1)
    corners = (corners * torch.tensor([width, height] * 2)).clamp(min=0)
    corners = corners.minimum(torch.tensor([width, height] * 2))
    torch.testing.assert_close(found.pred_boxes.tensor, corners, atol=1e-3, rtol=1e-4)
    scores = logits[1].sigmoid()[found.pred_queries, found.pred_classes]
    torch.testing.assert_close(found.scores, scores)


def test_a_point_is_in_the_cell_of_its_tokens() -> None:
    padded = F.pad(torch.zeros(2, 4), (0, 1, 0, 1), value=1).bool()  # 2 x 4 cells of 3 x 5
    small = torch.zeros(1, 2).bool()
    # (0.6, 0.7): row 1 of 2, column 2 of 4; row 0 of 1, column 1 of 2
    assert tokens_at(0.6, 0.7, [padded, small]) == [1 * 5 + 2, 15 + 1]
    assert tokens_at(0.0, 0.999, [padded, small]) == [5, 15]


class Foreign(nn.Module):
    """A detector of a library."""


def test_other_classes_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"(?s)test_reading\.Foreign.*Fix: ") as caught:
        read(Foreign().eval(), [])
    assert len(str(caught.value).splitlines()) <= 3
