"""The trees of DAB-DETR: sizes, values that follow the root, start of the weights."""

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from omegaconf import OmegaConf
from torch import nn

from projects.clockdistill.configs.models.dab_detr import dab_detr, mini_dab_detr

TEACHER = {"stem_channels": 24, "channels": (24, 48, 96, 120)}


@pytest.mark.parametrize(("options", "millions"), [({}, 0.65), (TEACHER, 1.16)])
def test_mini_sizes(options, millions):
    parameters = sum(p.numel() for p in instantiate(mini_dab_detr(7, **options)).parameters())
    assert parameters / 1e6 == pytest.approx(millions, abs=0.01)


def test_the_mini_one_has_enough_tokens():
    detector = instantiate(mini_dab_detr(7)).eval()
    seen = []
    detector.transformer.encoder.register_forward_hook(lambda _, __, memory: seen.append(memory))
    detector([{"image": torch.zeros(3, 96, 320)}])
    assert len(seen[0]) == 6 * 20


@pytest.mark.parametrize("tree", [dab_detr(18), mini_dab_detr(5)], ids=["full", "mini"])
def test_values_that_must_agree_follow_the_root(tree, tmp_path):
    config = OmegaConf.create({"model": tree}, flags={"allow_objects": True})
    LazyConfig.apply_overrides(
        config,
        ["model.num_classes=7", "model.num_queries=12", "model.transformer.encoder.num_layers=1"],
    )
    saved = tmp_path / "config.yaml"
    LazyConfig.save(config, str(saved))
    for source in (config, LazyConfig.load(str(saved))):
        detector = instantiate(source.model)
        assert detector.criterion.num_classes == detector.class_embed.out_features == 7
        assert detector.anchor_box_embed.num_embeddings == 12
        assert len(detector.transformer.encoder.layers) == 1
        assert detector.position_embedding.temperature == 20


def test_each_call_gives_a_tree_of_its_own():
    first, second = mini_dab_detr(), mini_dab_detr()
    first.num_classes = 3
    first.transformer.encoder.activation.init = 0.5
    assert second.num_classes == 7 and "init" not in second.transformer.encoder.activation
    assert "init" not in first.transformer.decoder.activation


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
