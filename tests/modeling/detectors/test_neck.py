"""The neck: shapes of given and further levels, and where the further ones come from."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import nn

from projects.clockdistill.modeling.detectors.neck import ChannelMapper

SHAPES = {"res4": ShapeSpec(channels=6), "res5": {"channels": 10}}
FEATURES = {"res4": torch.randn(2, 6, 7, 9), "res5": torch.randn(2, 10, 4, 5)}


def neck(num_outs: int) -> ChannelMapper:
    norm = nn.GroupNorm(2, 8)
    return ChannelMapper(SHAPES, ["res4", "res5"], 8, num_outs, norm_layer=norm)


@pytest.mark.parametrize("num_outs", [2, 3, 4])
def test_levels_have_one_width_and_halve(num_outs):
    levels = neck(num_outs)(FEATURES)
    sizes = [(7, 9), (4, 5), (2, 3), (1, 2)][:num_outs]
    assert [tuple(x.shape) for x in levels] == [(2, 8, *size) for size in sizes]


def test_further_levels_read_the_last_feature_and_then_each_other():
    mapper = neck(4)
    levels = mapper(FEATURES)
    third = mapper.extra_convs[0](FEATURES["res5"])
    torch.testing.assert_close(levels[2], third)
    torch.testing.assert_close(levels[3], mapper.extra_convs[1](third))


def test_each_level_has_a_norm_of_its_own():
    norms = [conv.norm for conv in [*neck(3).convs, *neck(3).extra_convs]]
    assert len({id(norm) for norm in norms}) == 3


def test_impossible_levels_are_refused():
    with pytest.raises(ValueError, match="num_outs=1"):
        neck(1)
    with pytest.raises(ValueError, match="lacks"):
        ChannelMapper(SHAPES, ["res3"], 8, 1)
