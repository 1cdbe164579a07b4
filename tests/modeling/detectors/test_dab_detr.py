"""The detector as a whole: losses, gradients, anchors, patterns, isolation, refusals."""

import copy

import pytest
import torch
from detectron2.config import instantiate
from omegaconf import OmegaConf

from projects.clockdistill.configs.models.dab_detr import mini_dab_detr
from projects.clockdistill.modeling.detectors.dab_detr.detector import DABDETR
from projects.clockdistill.modeling.detectors.layers.boxes import inverse_sigmoid
from tests.modeling.tiny_detectors import batch, tiny_detector

LOSSES = {f"loss_{what}{stage}" for what in ("class", "bbox", "giou") for stage in ("", "_0")}


@pytest.fixture
def detector() -> DABDETR:
    return tiny_detector("dab_detr").train()


def tiny_with(**transformer) -> DABDETR:
    """A detector of 5 anchors whose transformer has the given options (dotted)."""
    tree = mini_dab_detr(3, stem_channels=8, channels=(8, 12, 16, 20))
    tree.num_queries = 5
    for key, value in transformer.items():
        OmegaConf.update(tree, f"transformer.{key.replace('__', '.')}", value)
    return instantiate(tree)


def decoded(detector: DABDETR, inputs: list[dict]) -> tuple[torch.Tensor, torch.Tensor]:
    """What the decoder gives out."""
    seen = []
    hook = detector.transformer.decoder.register_forward_hook(lambda _, __, out: seen.extend(out))
    detector(inputs)
    hook.remove()
    return seen[0], seen[1]


@pytest.mark.parametrize("counts", [(2, 1), (3, 0), (0, 0)])
def test_losses_have_one_set_of_names_and_every_parameter_a_finite_gradient(detector, counts):
    losses = detector(batch(counts))
    assert losses.keys() == LOSSES
    sum(losses.values()).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("num_layers", [1, 3])
def test_one_stage_of_losses_per_decoder_layer(num_layers):
    detector = tiny_detector("dab_detr", num_layers=num_layers).train()
    assert len(detector(batch())) == 3 * num_layers


def test_without_aux_loss_only_the_last_layer_is_supervised(detector):
    every = detector(batch())
    detector.aux_loss = False
    last = detector(batch())
    assert last.keys() == {n for n in LOSSES if not n.endswith("_0")}
    for name, loss in last.items():
        torch.testing.assert_close(loss, every[name])


def test_references_are_the_anchors_and_then_what_the_shared_head_made_of_them(detector):
    detector.transformer.decoder.post_norm_layer = None  # the states are what the head refines
    states, references = decoded(detector.eval(), batch())
    anchors = detector.anchor_box_embed.weight.sigmoid().expand(2, -1, -1)
    torch.testing.assert_close(references[0], anchors)
    refined = (inverse_sigmoid(anchors) + detector.bbox_embed(states[0])).sigmoid()
    torch.testing.assert_close(references[1], refined)


def test_detections_are_the_last_stages_offsets_from_its_references(detector):
    detector.eval()
    inputs = batch((1,), sizes=((64, 96),))
    states, references = decoded(detector, inputs)
    boxes = (inverse_sigmoid(references[-1]) + detector.bbox_embed(states[-1])).sigmoid()[0]
    best, entries = detector.class_embed(states[-1])[0].sigmoid().flatten().sort(descending=True)
    instances = detector(inputs)[0]["instances"]
    assert len(instances) == len(best) == 7 * 3
    torch.testing.assert_close(instances.scores, best)
    centre, size = boxes[entries // 3].split(2, dim=-1)
    corners = torch.cat((centre - size / 2, centre + size / 2), dim=-1).clamp(0, 1)
    expected = corners * torch.tensor([96.0, 64.0, 96.0, 64.0])
    torch.testing.assert_close(instances.pred_boxes.tensor, expected)


def test_a_box_loss_also_trains_the_layer_before(detector):
    detector.zero_grad()
    seen = []
    layer = detector.transformer.decoder.layers[0]
    layer.register_forward_hook(lambda _, __, out: seen.append(out))
    _, references = decoded(detector, batch())
    (gradient,) = torch.autograd.grad(references[1].sum(), seen[0])
    assert gradient.abs().sum() > 0


def test_the_box_head_is_one_for_all_layers_also_in_a_copy(detector):
    for one in (detector, copy.deepcopy(detector)):
        assert one.transformer.decoder.bbox_embed is one.bbox_embed


@pytest.mark.parametrize("spread", [True, False])
def test_anchors_start_spread_over_the_image_or_around_its_middle_and_train(spread):
    tree = mini_dab_detr(3)
    tree.num_queries = 400
    tree.freeze_anchor_box_centers = spread
    detector = instantiate(tree).train()
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
    assert content.shape == (15, 2, 64) and anchors.shape == (15, 2, 4)
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
    assert detector(batch()).keys() == LOSSES


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


@pytest.mark.parametrize("by", ["attn_masks", "query_key_padding_mask", None])
def test_appended_queries_change_nothing_where_a_mask_hides_them(detector, by):
    detector.eval()
    plain = decoded(detector, batch())

    def append(_, args, kwargs):
        queries, images, width = kwargs["query"].shape
        kwargs["query"] = torch.cat((kwargs["query"], torch.ones(2, images, width)))
        anchors = torch.zeros(2, images, 4)
        kwargs["anchor_box_embed"] = torch.cat((kwargs["anchor_box_embed"], anchors))
        if by == "attn_masks":
            blocked = torch.zeros(queries + 2, queries + 2, dtype=torch.bool)
            blocked[:queries, queries:] = True
            kwargs[by] = [blocked, None]
        elif by:
            hidden = torch.zeros(images, queries + 2, dtype=torch.bool)
            hidden[:, queries:] = True
            kwargs[by] = hidden
        return args, kwargs

    detector.transformer.decoder.register_forward_pre_hook(append, with_kwargs=True)
    more = decoded(detector, batch())
    for first, second in zip(plain, more, strict=True):
        queries = first.shape[2]
        assert second.shape[2] == queries + 2
        same = torch.allclose(second[:, :, :queries], first, atol=1e-5)
        assert same == (by is not None)


def test_calls_have_the_agreed_names_and_layouts(detector):
    seen = {}
    for name in ("encoder", "decoder"):
        getattr(detector.transformer, name).register_forward_pre_hook(
            lambda _, args, kwargs, name=name: seen.update({name: (args, kwargs)}), with_kwargs=True
        )
    detector.transformer.register_forward_pre_hook(lambda _, args: seen.update(transformer=args))
    detector(batch())
    features, mask = seen["transformer"][:2]
    assert features.shape == (2, 16, 4, 6) and mask.shape == (2, 4, 6) and mask.dtype == torch.bool
    assert seen["encoder"][0] == seen["decoder"][0] == ()
    encoder, decoder = seen["encoder"][1], seen["decoder"][1]
    assert encoder.keys() == {"query", "query_pos", "query_key_padding_mask"}
    names = {"query", "value", "key_pos", "key_padding_mask", "anchor_box_embed"}
    assert decoder.keys() == names
    assert encoder["query"].shape == encoder["query_pos"].shape == (24, 2, 16)
    assert decoder["value"].shape == decoder["key_pos"].shape == (24, 2, 16)
    assert decoder["query"].shape == (7, 2, 16) and decoder["anchor_box_embed"].shape == (7, 2, 4)
    for padding in (encoder["query_key_padding_mask"], decoder["key_padding_mask"]):
        assert torch.equal(padding, mask.flatten(1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_trains_a_step_with_finite_losses(detector, dtype):
    with torch.autocast("cpu", dtype=dtype):
        losses = detector(batch())
    exact = detector(batch())
    sum(losses.values()).backward()
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in detector.parameters())
    torch.testing.assert_close(losses["loss_class"], exact["loss_class"], rtol=0.1, atol=0)


def test_training_reduces_the_loss(detector):
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    history = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = sum(detector(batch()).values())
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert sum(history[-5:]) < 0.8 * sum(history[:5])


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("criterion.num_classes", 4, "num_classes=3 but criterion.num_classes=4"),
        ("transformer.encoder.embed_dim", 32, "embed_dim=64 but transformer.encoder.embed_dim=32"),
        ("transformer.decoder.embed_dim", 32, "embed_dim=64 but transformer.decoder.embed_dim=32"),
        ("embed_dim", 66, "embed_dim must be divisible by 4, got 66"),
        ("transformer.encoder.post_norm", True, "post_norm=True is not supported"),
    ],
)
def test_values_that_disagree_or_are_not_supported_are_refused(key, value, words):
    tree = mini_dab_detr(3)
    if key == "embed_dim":
        tree.transformer.encoder.num_heads = tree.transformer.decoder.num_heads = 2
    OmegaConf.update(tree, key, value)
    with pytest.raises(ValueError, match=words):
        instantiate(tree)


def test_position_encodings_of_another_width_are_refused():
    tree = mini_dab_detr(3)
    tree.position_embedding.num_pos_feats = 16
    with pytest.raises(ValueError, match="gives 32 channels, input_proj 64. .*num_pos_feats"):
        instantiate(tree)(batch())
