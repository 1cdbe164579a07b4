"""DINO: denoising queries that change nothing else, heads, contents, levels."""

import copy

import pytest
import torch
from detectron2.config import instantiate

from projects.clockdistill.modeling.detectors.dino.denoising import DenoisingQueries
from tests.modeling.tiny_detectors import batch, tiny_config, tiny_dino


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
    for name in (name for name in without if "_dn" not in name):
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


@pytest.mark.parametrize(("embed_dim", "num_feature_levels"), [(16, 3), (40, 4)])
def test_other_widths_and_levels_train_and_detect(embed_dim, num_feature_levels):
    config = tiny_config("dino", embed_dim=embed_dim)
    config.transformer.num_feature_levels = num_feature_levels
    detector = instantiate(config)
    assert all(loss.isfinite() for loss in detector(batch()).values())
    results = detector.eval()(batch())
    assert len(results) == 2 and all(len(r["instances"]) <= 7 * 3 for r in results)


def test_heads_are_shared_with_the_decoder_also_in_a_copy():
    for detector in (tiny_dino(), copy.deepcopy(tiny_dino())):
        assert detector.transformer.decoder.class_embed is detector.class_embed
        assert detector.transformer.decoder.bbox_embed is detector.bbox_embed


def test_look_forward_twice_trains_the_layer_before():
    """The box loss of layer 1 alone reaches the box head of layer 0, or does not."""
    reached = []
    for twice in (True, False):
        detector = tiny_dino().train()
        detector.dn_number = 0
        detector.transformer.decoder.look_forward_twice = twice
        detector(batch())["loss_bbox"].backward()
        reached.append(bool(detector.bbox_embed[0].layers[-1].bias.grad.any()))
    assert reached == [True, False]


def test_contents_may_come_from_the_chosen_tokens():
    config = tiny_config("dino")
    config.transformer.learnt_init_query = False
    detector = instantiate(config)
    assert "transformer.tgt_embed.weight" not in detector.state_dict()
    assert all(loss.isfinite() for loss in detector(batch()).values())
