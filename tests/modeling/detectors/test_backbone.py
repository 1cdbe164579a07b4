"""Narrow stages for detectron2's ResNet: widths, depths, strides."""

import pytest
import torch
from detectron2.modeling.backbone import BasicStem, ResNet

from projects.clockdistill.modeling.detectors.backbone import basic_stages


def test_features_have_the_widths_and_strides_of_a_resnet():
    stages = basic_stages(4, [4, 6, 8, 10], [1, 2, 1, 1], norm="BN")
    assert [len(stage) for stage in stages] == [1, 2, 1, 1]
    names = ["res2", "res3", "res4", "res5"]
    resnet = ResNet(BasicStem(3, 4, norm="BN"), stages, out_features=names, freeze_at=0)
    features = resnet(torch.randn(2, 3, 64, 96))
    shapes = [tuple(features[name].shape) for name in names]
    assert shapes == [(2, 4, 16, 24), (2, 6, 8, 12), (2, 8, 4, 6), (2, 10, 2, 3)]
    assert all(p.requires_grad for p in resnet.parameters())


def test_the_last_stage_may_keep_the_resolution():
    stages = basic_stages(4, [4, 6, 8, 10], [1, 2, 1, 2], norm="BN", last_stride=1)
    assert [[block.stride for block in stage] for stage in stages] == [[1], [2, 1], [2], [1, 1]]


def test_widths_without_depths_are_refused():
    with pytest.raises(ValueError, match="4 stage widths but 3"):
        basic_stages(4, [4, 6, 8, 10], [1, 1, 1], norm="BN")
