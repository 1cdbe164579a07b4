"""The configs of all families: sizes, values that must agree, copies."""

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from omegaconf import OmegaConf

from projects.clockdistill.configs.models.dab_detr import dab_detr, mini_dab_detr
from projects.clockdistill.configs.models.deformable_detr import (
    deformable_detr,
    mini_deformable_detr,
)
from projects.clockdistill.configs.models.dino import dino, mini_dino

MINI = (mini_dino, mini_dab_detr, mini_deformable_detr)
each_config = pytest.mark.parametrize("build", [dino, dab_detr, deformable_detr, *MINI])


@pytest.mark.parametrize(
    ("build", "student", "teacher"),
    [
        (mini_dino, 0.63, 1.14),
        (mini_dab_detr, 0.65, 1.16),
        (mini_deformable_detr, 0.60, 1.11),
    ],
)
def test_mini_sizes(build, student, teacher):
    for config, millions in (
        (build(7), student),
        (build(7, stem_channels=24, channels=(24, 48, 96, 120)), teacher),
    ):
        parameters = sum(p.numel() for p in instantiate(config).parameters())
        assert parameters / 1e6 == pytest.approx(millions, abs=0.01)


@each_config
def test_values_that_must_agree_follow_the_root(build, tmp_path):
    config = OmegaConf.create({"model": build()}, flags={"allow_objects": True})
    changes = ["num_classes=5", "num_queries=12", "transformer.encoder.num_layers=1"]
    LazyConfig.apply_overrides(config, [f"model.{change}" for change in changes])
    saved = tmp_path / "config.yaml"
    LazyConfig.save(config, str(saved))
    for source in (config, LazyConfig.load(str(saved))):
        with torch.device("meta"):
            detector = instantiate(source.model)  # refuses queries and classes that disagree
        assert detector.num_classes == detector.criterion.num_classes == 5
        assert detector.num_queries == 12
        assert len(detector.transformer.encoder.layers) == 1


@each_config
def test_each_call_gives_a_config_of_its_own(build):
    first, second = build(), build()
    first.num_classes = 3
    first.transformer.encoder.num_heads = 1
    assert second.num_classes != 3 and second.transformer.encoder.num_heads != 1
    assert first.transformer.decoder.num_heads != 1


def test_the_mini_dab_detr_has_enough_tokens():
    detector = instantiate(mini_dab_detr(7)).eval()
    seen = []
    detector.transformer.encoder.register_forward_hook(lambda _, __, memory: seen.append(memory))
    detector([{"image": torch.zeros(3, 96, 320)}])
    assert len(seen[0]) == 6 * 20


@pytest.mark.parametrize(("depth", "strides"), [(18, None), (50, (1, 2))])
def test_bottlenecks_stride_in_their_3x3_convolution(depth, strides):
    block = instantiate(dino(depth).backbone).res3[0]
    assert block.conv1.stride == ((2, 2) if strides is None else (strides[0],) * 2)
    if strides is not None:
        assert block.conv2.stride == (strides[1],) * 2
