"""The detector as a whole: losses, gradients, isolation of denoising, refusals."""

import copy

import pytest
import torch
from detectron2.config import instantiate
from omegaconf import OmegaConf

from projects.clockdistill.configs.models.dino import mini_dino
from projects.clockdistill.modeling.detectors.dino.denoising import DenoisingQueries
from projects.clockdistill.modeling.detectors.dino.detector import DINO
from tests.modeling.tiny_detectors import batch, tiny_dino

LOSSES = {
    f"loss_{what}{stage}"
    for what in ("class", "bbox", "giou")
    for stage in ("", "_0", "_enc", "_dn", "_dn_0")
}


def gradients(detector: DINO, inputs: list[dict]) -> dict[str, torch.Tensor]:
    detector.zero_grad()
    sum(detector(inputs).values()).backward()
    return {n: p.grad for n, p in detector.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("counts", [(2, 1), (3, 0), (0, 0)])
@pytest.mark.parametrize("dn_number", [4, 0])
def test_losses_have_one_set_of_names_and_every_parameter_a_finite_gradient(counts, dn_number):
    detector = tiny_dino().train()
    detector.dn_number = dn_number
    assert detector(batch(counts)).keys() == LOSSES
    found = gradients(detector, batch(counts))
    assert found.keys() == {n for n, p in detector.named_parameters() if p.requires_grad}
    assert all(gradient.isfinite().all() for gradient in found.values())


@pytest.mark.parametrize("num_layers", [1, 3])
def test_one_stage_of_losses_per_decoder_layer(num_layers):
    detector = tiny_dino(num_layers=num_layers).train()
    numbered = {n for n in detector(batch()) if n.startswith("loss_bbox_dn_")}
    assert len(numbered) == num_layers - 1
    assert len(detector.class_embed) == len(detector.bbox_embed) == num_layers + 1


def test_without_aux_loss_only_the_last_layer_is_supervised():
    detector = tiny_dino().train()
    detector.aux_loss = False
    assert detector(batch()).keys() == {n for n in LOSSES if not n.endswith("_0")}


def test_denoising_queries_change_no_matching_output():
    """Also no matching loss: all but the `_dn` losses are those without denoising."""
    detector = tiny_dino().train()
    states = []
    detector.transformer.decoder.register_forward_hook(
        lambda _, __, output: states.append([x.detach() for x in output])
    )
    with_denoising = detector(batch((3, 1)))
    detector.dn_number = 0
    without = detector(batch((3, 1)))
    for noised, plain in zip(*states, strict=True):
        assert noised.shape[2] > plain.shape[2] == detector.num_queries
        torch.testing.assert_close(
            noised[:, :, -detector.num_queries :], plain, atol=1e-5, rtol=1e-5
        )
    for name in (n for n in LOSSES if "_dn" not in n):
        torch.testing.assert_close(with_denoising[name], without[name], atol=1e-5, rtol=1e-5)


def test_a_denoising_group_depends_on_no_other_group():
    detector = tiny_dino().eval()
    size, groups, queries = 3, 2, detector.num_queries
    images, _ = detector.preprocess_images(batch((1,), sizes=((64, 96),)))
    features = detector.neck(detector.backbone(images.tensor))
    masks = [torch.zeros(1, *x.shape[-2:], dtype=torch.bool) for x in features]
    positions = [detector.position_embedding(m) for m in masks]
    group = torch.arange(groups + 1).repeat_interleave(torch.tensor([size, size, queries]))
    blocked = (group[:, None] != group) & (group != groups)
    content = torch.randn(1, groups * size, detector.embed_dim)
    anchors = torch.rand(1, groups * size, 4) * 0.5 + 0.25
    denoising = DenoisingQueries(content, anchors, blocked, matches=None, num_groups=groups)
    with torch.no_grad():
        first = detector.transformer(features, masks, positions, denoising)
        content[:, size:], anchors[:, size:] = 5.0, 0.9
        second = detector.transformer(features, masks, positions, denoising)
    changed = (first.states - second.states).abs().amax((0, 1, 3)) > 1e-5
    assert changed.tolist() == (group == 1).tolist()


@pytest.mark.parametrize("masked", [False, True])
def test_the_decoder_honours_a_mask_of_queries(masked):
    """Queries appended by a hook change nothing where the padding mask hides them."""
    detector = tiny_dino().eval()
    inputs = batch((1, 1))
    states = []

    def append(_, args, kwargs):
        extra = 2
        batch_size, queries, width = kwargs["query"].shape
        kwargs["query"] = torch.cat((kwargs["query"], torch.ones(batch_size, extra, width)), 1)
        anchors = torch.full((batch_size, extra, 4), 0.5)
        kwargs["reference_points"] = torch.cat((kwargs["reference_points"], anchors), 1)
        hidden = torch.zeros(batch_size, queries + extra, dtype=torch.bool)
        hidden[:, queries:] = masked
        kwargs["query_key_padding_mask"] = hidden
        return args, kwargs

    decoder = detector.transformer.decoder
    decoder.register_forward_hook(lambda _, __, output: states.append(output[0][:, :, :7]))
    with torch.no_grad():
        detector(inputs)
        hook = decoder.register_forward_pre_hook(append, with_kwargs=True)
        cut = decoder.register_forward_hook(lambda _, __, out: tuple(x[:, :, :7] for x in out))
        detector(inputs)
    hook.remove(), cut.remove()
    assert torch.allclose(*states, atol=1e-5) == masked


def test_calls_of_encoder_and_decoder_are_by_keyword_with_the_agreed_names():
    detector = tiny_dino().train()
    seen = {}
    for name in ("encoder", "decoder"):
        getattr(detector.transformer, name).register_forward_pre_hook(
            lambda _, args, kwargs, name=name: seen.update({name: (args, kwargs)}), with_kwargs=True
        )
    detector(batch((2, 1)))
    common = {"query", "query_pos", "spatial_shapes", "reference_points"}
    assert seen["encoder"][0] == seen["decoder"][0] == ()
    encoder, decoder = seen["encoder"][1], seen["decoder"][1]
    assert encoder.keys() == common | {"query_key_padding_mask"}
    assert decoder.keys() == common | {"value", "valid_ratios", "key_padding_mask", "attn_masks"}
    queries = decoder["query"].shape[1]
    assert decoder["attn_masks"][0].shape == (queries, queries)
    assert decoder["attn_masks"][0].dtype == torch.bool and decoder["attn_masks"][1] is None
    assert decoder["reference_points"].min() >= 0 and decoder["reference_points"].max() <= 1
    assert encoder["query_key_padding_mask"].shape == encoder["query"].shape[:2]


@pytest.mark.parametrize(("embed_dim", "num_feature_levels"), [(16, 3), (40, 4)])
def test_other_widths_and_levels_train_and_detect(embed_dim, num_feature_levels):
    tree = mini_dino(3)
    tree.embed_dim = embed_dim
    tree.position_embedding.num_pos_feats = embed_dim // 2
    tree.transformer.num_feature_levels = num_feature_levels
    tree.num_queries = 9
    detector = instantiate(tree)
    assert detector(batch()).keys() == LOSSES
    results = detector.eval()(batch())
    assert len(results) == 2 and all(len(r["instances"]) <= 9 * 3 for r in results)


def test_detections_are_in_the_original_image_and_as_many_as_there_can_be():
    detector = tiny_dino().eval()
    inputs = [batch((1,), sizes=((64, 96),))[0] | {"height": 30, "width": 500}]
    instances = detector(inputs)[0]["instances"]
    assert instances.image_size == (30, 500)
    assert 0 < len(instances) <= 7 * 3 < detector.select_box_nums_for_evaluation
    boxes = instances.pred_boxes.tensor
    assert (boxes >= 0).all() and (boxes <= torch.tensor([500, 30, 500, 30])).all()
    assert (instances.scores.diff() <= 0).all()


def test_no_height_and_width_means_the_images_own():
    detector = tiny_dino().eval()
    image = batch((1,), sizes=((64, 96),))[0]["image"]
    assert detector([{"image": image}])[0]["instances"].image_size == (64, 96)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_trains_a_step_with_finite_losses(dtype):
    detector = tiny_dino().train()
    with torch.autocast("cpu", dtype=dtype):
        losses = detector(batch())
    exact = detector(batch())
    sum(losses.values()).backward()
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in detector.parameters())
    torch.testing.assert_close(losses["loss_class_enc"], exact["loss_class_enc"], rtol=0.1, atol=0)


def test_predictions_that_are_not_finite_end_the_step_with_their_place():
    detector = tiny_dino().train()
    torch.nn.init.constant_(detector.bbox_embed[1].layers[-1].bias, float("nan"))
    with pytest.raises(FloatingPointError, match="layer 1, image 0"):
        detector(batch())


def test_training_reduces_the_loss():
    detector = tiny_dino().train()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    history = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = sum(detector(batch()).values())
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert sum(history[-5:]) < 0.8 * sum(history[:5])


def test_heads_are_shared_with_the_decoder_also_in_a_copy():
    for detector in (tiny_dino(), copy.deepcopy(tiny_dino())):
        assert detector.transformer.decoder.class_embed is detector.class_embed
        assert detector.transformer.decoder.bbox_embed is detector.bbox_embed


def test_look_forward_twice_trains_the_layer_before():
    """The box loss of stage 1 alone reaches the box head of stage 0, or does not."""
    reached = []
    for twice in (True, False):
        detector = tiny_dino().train()
        detector.dn_number = 0
        detector.transformer.decoder.look_forward_twice = twice
        detector(batch())["loss_bbox"].backward()
        reached.append(bool(detector.bbox_embed[0].layers[-1].bias.grad.any()))
    assert reached == [True, False]


def test_contents_may_come_from_the_chosen_tokens():
    tree = mini_dino(3)
    tree.transformer.learnt_init_query = False
    detector = instantiate(tree)
    assert "transformer.tgt_embed.weight" not in detector.state_dict()
    assert detector(batch(sizes=((96, 96), (96, 64)))).keys() == LOSSES


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("criterion.num_classes", 4, "num_classes=3 but criterion.num_classes=4"),
        ("transformer.two_stage_num_proposals", 5, "num_queries=60 but .*=5"),
        ("transformer.encoder.embed_dim", 32, "embed_dim=64 but .*=32"),
        ("transformer.encoder.post_norm", True, "post_norm=True is not supported"),
    ],
)
def test_values_that_disagree_or_are_not_supported_are_refused(key, value, words):
    tree = mini_dino(3)
    OmegaConf.update(tree, key, value)
    with pytest.raises(ValueError, match=words):
        instantiate(tree)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("num_outs", 4, "neck gives 4 levels"), ("in_features", ["res3", "res4"], None)],
)
def test_levels_must_agree_between_neck_and_transformer(key, value, words):
    tree = mini_dino(3)
    tree.neck[key] = value
    detector = instantiate(tree)
    if words is None:  # fewer features and one more extra level is a choice
        assert detector(batch(sizes=((96, 96), (96, 64)))).keys() == LOSSES
    else:
        with pytest.raises(ValueError, match=words):
            detector(batch())


def test_images_with_too_few_tokens_are_refused():
    detector = instantiate(mini_dino(3))
    with pytest.raises(ValueError, match=r"=60, .* only \d+ tokens"):
        detector(batch((1,), sizes=((32, 48),)))
