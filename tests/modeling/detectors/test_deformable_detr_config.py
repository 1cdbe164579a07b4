"""The trees: sizes, ties between values, variants."""

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from omegaconf import OmegaConf

from projects.clockdistill.configs.models.deformable_detr import (
    deformable_detr,
    mini_deformable_detr,
)

TREES = pytest.mark.parametrize("build", [deformable_detr, mini_deformable_detr])


@TREES
def test_values_that_must_agree_follow_the_root(build, tmp_path):
    config = OmegaConf.create({"model": build()}, flags={"allow_objects": True})
    LazyConfig.apply_overrides(
        config,
        [
            "model.num_classes=5",
            "model.num_queries=12",
            "model.with_box_refine=True",
            "model.as_two_stage=True",
            "model.transformer.encoder.num_layers=1",
            "model.transformer.decoder.num_layers=3",
        ],
    )
    saved = tmp_path / "config.yaml"
    LazyConfig.save(config, str(saved))
    for source in (config, LazyConfig.load(str(saved))):
        with torch.device("meta"):
            detector = instantiate(source.model)
        assert detector.criterion.num_classes == detector.class_embed[0].out_features == 5
        assert detector.transformer.two_stage_num_proposals == 12
        assert detector.transformer.as_two_stage
        assert len(detector.transformer.encoder.layers) == 1
        assert len(detector.bbox_embed) == 3 + 1


def test_the_full_size_has_the_papers_values():
    tree = deformable_detr()
    for part in (tree.transformer.encoder, tree.transformer.decoder):
        assert (part.num_layers, part.num_heads, part.feedforward_dim) == (6, 8, 1024)
        assert part.attn_dropout == part.ffn_dropout == 0.1
    assert (tree.num_queries, tree.transformer.num_feature_levels) == (300, 4)
    assert not tree.with_box_refine and not tree.as_two_stage


@pytest.mark.parametrize(
    ("options", "millions"),
    [({}, 0.60), ({"stem_channels": 24, "channels": (24, 48, 96, 120)}, 1.11)],
)
def test_mini_sizes(options, millions):
    detector = instantiate(mini_deformable_detr(7, **options))
    parameters = sum(p.numel() for p in detector.parameters())
    assert parameters / 1e6 == pytest.approx(millions, abs=0.01)


@TREES
def test_each_call_gives_a_tree_of_its_own(build):
    first, second = build(), build()
    first.num_classes = 3
    assert second.num_classes != 3
