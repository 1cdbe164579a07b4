"""DAB-DETR: anchors, their refinement, patterns, modulated attention, start of the weights."""

import copy

import pytest
import torch
from detectron2.config import instantiate
from omegaconf import OmegaConf
from torch import nn

from projects.clockdistill.configs.models.dab_detr import mini_dab_detr
from projects.clockdistill.modeling.detectors.dab_detr.detector import DABDETR
from projects.clockdistill.modeling.detectors.layers.boxes import inverse_sigmoid
from tests.modeling.tiny_detectors import batch, tiny_config, tiny_detector


@pytest.fixture
def detector() -> DABDETR:
    return tiny_detector("dab_detr").train()


def tiny_with(**transformer) -> DABDETR:
    """A detector of 5 anchors whose transformer has the given options (dotted)."""
    config = tiny_config("dab_detr")
    config.num_queries = 5
    for key, value in transformer.items():
        OmegaConf.update(config, f"transformer.{key.replace('__', '.')}", value)
    return instantiate(config)


def decoded(detector: DABDETR, inputs: list[dict]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns what the decoder returns."""
    seen = []
    hook = detector.transformer.decoder.register_forward_hook(lambda _, __, out: seen.extend(out))
    detector(inputs)
    hook.remove()
    return seen[0], seen[1]


def test_references_are_the_anchors_and_then_what_the_shared_head_made_of_them(detector):
    detector.transformer.decoder.post_norm_layer = None  # the states are what the head refines
    states, references = decoded(detector.eval(), batch())
    anchors = detector.anchor_box_embed.weight.sigmoid().expand(2, -1, -1)
    torch.testing.assert_close(references[0], anchors)
    refined = (inverse_sigmoid(anchors) + detector.bbox_embed(states[0])).sigmoid()
    torch.testing.assert_close(references[1], refined)


def test_the_box_head_is_one_for_all_layers_also_in_a_copy(detector):
    for one in (detector, copy.deepcopy(detector)):
        assert one.transformer.decoder.bbox_embed is one.bbox_embed


@pytest.mark.parametrize("spread", [True, False])
def test_anchors_start_spread_over_the_image_or_around_its_middle_and_train(spread):
    config = tiny_config("dab_detr")
    config.num_queries = 400
    config.freeze_anchor_box_centers = spread
    detector = instantiate(config).train()
    centres = detector.anchor_box_embed.weight[:, :2].sigmoid()
    # standard deviation of a uniform variable: sqrt(1 / 12) = 0.289; of sigmoid(N(0, 1)): 0.208
    assert centres.std().item() == pytest.approx(0.289 if spread else 0.208, abs=0.02)
    assert detector.anchor_box_embed.weight[:, 2:].std().item() == pytest.approx(1, abs=0.1)
    # the box head starts at 0: the boxes are the anchors
    _, references = decoded(detector, batch())
    torch.testing.assert_close(references[1], references[0], atol=1e-3, rtol=0)
    sum(detector(batch()).values()).backward()
    assert detector.anchor_box_embed.weight.grad[:, :2].any()


def test_patterns_go_with_every_anchor_pattern_after_pattern():
    detector = tiny_with(num_patterns=3).train()
    seen = {}
    detector.transformer.decoder.register_forward_pre_hook(
        lambda _, __, kwargs: seen.update(kwargs), with_kwargs=True
    )
    losses = detector(batch())
    content, anchors = seen["query"], seen["anchor_box_embed"]
    assert content.shape == (15, 2, 16) and anchors.shape == (15, 2, 4)
    patterns = detector.transformer.patterns.weight
    for query in range(15):
        assert torch.equal(content[query, 1], patterns[query // 5])
        assert torch.equal(anchors[query, 1], detector.anchor_box_embed.weight[query % 5])
    sum(losses.values()).backward()
    assert patterns.grad.abs().sum(-1).all()
    assert "transformer.patterns.weight" not in tiny_with().state_dict()


@pytest.mark.parametrize(
    ("option", "part"),
    [
        ({"decoder__modulate_hw_attn": False}, "transformer.decoder.ref_anchor_head"),
        ({"decoder__post_norm": False}, "transformer.decoder.post_norm_layer"),
    ],
)
def test_options_that_leave_a_part_out(option, part):
    detector = tiny_with(**option).train()
    assert not [key for key in detector.state_dict() if key.startswith(part)]
    assert [key for key in tiny_with().state_dict() if key.startswith(part)]
    assert all(loss.isfinite() for loss in detector(batch()).values())


def test_attention_is_modulated_by_the_anchors_sides(detector):
    """Eq. (6): features of x times expected width / width, of y times expected height / height."""
    decoder = detector.transformer.decoder
    half = decoder.embed_dim // 2
    query, sine = torch.randn(2, 3, decoder.embed_dim), torch.randn(2, 3, decoder.embed_dim)
    reference = torch.rand(2, 3, 4) * 0.5 + 0.1
    found = decoder.modulated(sine, query, reference)
    expected = decoder.ref_anchor_head(query).sigmoid()
    width = expected[..., :1] / reference[..., 2:3]
    height = expected[..., 1:] / reference[..., 3:]
    torch.testing.assert_close(found[..., :half], sine[..., :half] * height)
    torch.testing.assert_close(found[..., half:], sine[..., half:] * width)


def test_anchors_without_size_give_finite_losses_and_gradients(detector):
    with torch.no_grad():
        detector.anchor_box_embed.weight[:, 2:] = -200.0  # sigmoid: 0 in float32
    sum(detector(batch()).values()).backward()
    assert all(p.grad.isfinite().all() for p in detector.parameters())


def test_weights_start_as_detrexs():
    detector = instantiate(mini_dab_detr(7))
    for name, matrix in detector.transformer.named_parameters():
        if matrix.dim() < 2 or "bbox_embed" in name:
            continue
        # Xavier: uniform within sqrt(6 / (inputs + outputs)), so that the largest lies near it
        bound = (6 / sum(matrix.shape)) ** 0.5
        assert 0.9 * bound < matrix.abs().max() <= bound, name
    for module in detector.modules():
        if isinstance(module, nn.PReLU):
            assert module.weight.item() == 0.25
    assert not detector.bbox_embed.layers[-1].weight.any()
    torch.testing.assert_close(detector.class_embed.bias.sigmoid(), torch.full((7,), 0.01))
