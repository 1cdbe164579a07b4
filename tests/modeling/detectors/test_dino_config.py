"""The trees: sizes, ties between values, saving and loading."""

import pytest
from detectron2.config import LazyConfig, instantiate
from omegaconf import OmegaConf

from projects.clockdistill.configs.models.dino import dino, mini_dino

TEACHER = {"stem_channels": 24, "channels": (24, 48, 96, 120)}


@pytest.mark.parametrize(("options", "millions"), [({}, 0.63), (TEACHER, 1.14)])
def test_mini_sizes(options, millions):
    parameters = sum(p.numel() for p in instantiate(mini_dino(7, **options)).parameters())
    assert parameters / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("tree", [dino(18), mini_dino(5)], ids=["full", "mini"])
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
        assert detector.criterion.num_classes == detector.label_enc.num_embeddings == 7
        assert detector.transformer.tgt_embed.num_embeddings == 12
        assert len(detector.transformer.encoder.layers) == 1


def test_each_call_gives_a_tree_of_its_own():
    first, second = mini_dino(), mini_dino()
    first.num_classes = 3
    assert second.num_classes == 7


@pytest.mark.parametrize(("depth", "strides"), [(18, None), (50, (1, 2))])
def test_bottlenecks_stride_in_their_3x3_convolution(depth, strides):
    tree = dino(depth)
    block = instantiate(tree.backbone).res3[0]
    assert block.conv1.stride == ((2, 2) if strides is None else (strides[0],) * 2)
    if strides is not None:
        assert block.conv2.stride == (strides[1],) * 2
