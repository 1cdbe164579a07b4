"""Multiply-adds against sums by hand, and against those of detrex's detectors."""

from typing import Any

import pytest
import torch
from detectron2.config import instantiate
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from projects.clockdistill.analysis.flops import count_flops
from projects.clockdistill.configs.models.dab_detr import dab_detr
from projects.clockdistill.configs.models.deformable_detr import deformable_detr
from projects.clockdistill.configs.models.dino import dino
from projects.clockdistill.modeling.detectors.layers.attention import SelfAttention
from projects.clockdistill.modeling.detectors.layers.deformable_attention import (
    DeformableAttention,
)


class OnImage(nn.Module):
    """A detector that runs a function of a part on the image."""

    def __init__(self, part: nn.Module, run: Any):
        super().__init__()
        self.part, self.run = part, run

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Tensor:
        return self.run(self.part, batched_inputs[0]["image"])


def image(*shape: int) -> list[dict[str, Any]]:
    return [{"image": torch.rand(shape), "height": shape[-2], "width": shape[-1]}]


class Detector(nn.Module):
    """Each part a linear layer or two; the decoder calls the heads as well."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(3, 4)
        self.neck = nn.Linear(4, 5)
        self.transformer = nn.Module()
        self.transformer.encoder = nn.Linear(5, 6)
        self.transformer.decoder = Decoder()
        self.class_embed = nn.ModuleList([nn.Linear(7, 2)])
        self.transformer.decoder.class_embed = self.class_embed
        self.bbox_embed = nn.Linear(7, 4)
        self.extra = nn.Linear(6, 6)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
        x = self.neck(self.backbone(batched_inputs[0]["image"]))
        x = self.transformer.decoder(self.extra(self.transformer.encoder(x)))
        return self.class_embed[0](x), self.bbox_embed(x).exp()


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return x + self.class_embed[0](x).sum()


def test_parts_share_out_the_total():
    flops = count_flops(Detector(), image(10, 3))  # 10 rows through each layer
    assert flops.by_part == {
        "backbone": 10 * 3 * 4,
        "neck": 10 * 4 * 5,
        "encoder": 10 * 5 * 6,
        "decoder": 10 * 6 * 7 + 10 * 2,  # the sum over 10 x 2 logits is the decoder's own
        "heads": 2 * (10 * 7 * 2) + 10 * 7 * 4,  # the class head runs twice
        "rest": 10 * 6 * 6,
    }
    assert flops.total == 120 + 200 + 300 + 440 + 560 + 360
    assert flops.uncounted == {"aten::add": 1, "aten::exp": 1}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["ours", "torch"])
def test_attention_counts_both_matrix_products(kind, masked):
    mask = torch.eye(10, dtype=torch.bool) if masked else None

    def run(part: nn.Module, x: Tensor) -> Tensor:
        if kind == "ours":
            return part(x, attn_mask=mask)
        # a query of its own: self-attention in eval mode would be one fused operator
        return part(x + 1, x, x, attn_mask=mask)[0]

    part = SelfAttention(8, 2) if kind == "ours" else nn.MultiheadAttention(8, 2, batch_first=True)
    flops = count_flops(OnImage(part, run), image(1, 10, 8))
    projections = 4 * 10 * 8 * 8
    products = 2 * (10 * 10 * 8)  # over both heads; query times key, weights times value
    assert flops.total == projections + products


DEFORMABLE = (
    12 * 8 * 8  # values of 12 tokens
    + 5 * 8 * (2 * 3 * 4) * 3  # 5 queries: offsets (x, y) and a weight per head, level and point
    + 5 * 8 * 8  # output
    + 5 * 2 * (3 * 4) * 2  # locations: the reference plus a scaled offset, for both heads
    # every channel of every head samples 3 levels at 4 points: 4 corners, 1 weight
    + 5 * 8 * (3 * 4) * (4 + 1)
)


def run_deformable(part: nn.Module, x: Tensor) -> Tensor:
    return part(x[:, :5], x, torch.full((1, 5, 3, 2), 0.5), [(2, 4), (1, 3), (1, 1)])


def test_deformable_attention_counts_sampling_and_sum():
    attention = OnImage(DeformableAttention(8, 2, num_levels=3), run_deformable)
    assert count_flops(attention, image(1, 12, 8)).total == DEFORMABLE


@torch.library.custom_op("clockdistill_test::opaque", mutates_args=())
def opaque(x: Tensor) -> Tensor:
    return x @ x.T


def test_an_operator_without_a_formula_is_named():
    flops = count_flops(OnImage(nn.Identity(), lambda part, x: opaque(x)), image(4, 3))
    assert (flops.total, flops.uncounted) == (0, {"clockdistill_test::opaque": 1})


@pytest.mark.parametrize(
    ("layer", "per_value"),
    [
        (nn.LayerNorm(6), 5),
        (nn.LayerNorm(6, elementwise_affine=False), 4),
        (nn.GroupNorm(2, 4), 5),
        (nn.GroupNorm(2, 4, affine=False), 4),
        (FrozenBatchNorm2d(4), 2),
        (nn.BatchNorm2d(4, affine=False), 1),
        (nn.Upsample(scale_factor=2), 4),  # four times as many values
        (nn.Upsample(scale_factor=2, mode="bilinear"), 4 * 4),
        (nn.AdaptiveAvgPool2d(3), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_norms_and_interpolation_count_as_in_fvcore(layer, per_value):
    flops = count_flops(OnImage(layer, lambda part, x: part(x[None])), image(4, 6, 6))
    assert flops.total == per_value * 4 * 6 * 6


def test_convolution():
    # 3 x 3 kernel, 3 -> 4 channels, 5 x 6 outputs; ReLU is free
    conv = OnImage(nn.Conv2d(3, 4, 3, padding=1), lambda part, x: F.relu(part(x[None])))
    assert count_flops(conv, image(3, 5, 6)).total == 3 * 3 * 3 * 4 * 5 * 6


# One image of 402 x 1333: levels of 51 x 167, 26 x 84, 13 x 42 and 7 x 21 tokens.
TOKENS = 8517 + 2184 + 546 + 147
CLASS_HEAD, BOX_HEAD = 256 * 7, 256 * 256 + 256 * 256 + 256 * 4
WEIGHING = 4 * 4 * 256  # levels * points * channels: detrex's figures leave the weighted sum out


@pytest.mark.parametrize(
    ("config", "parameters", "detrex", "difference"),
    [
        (
            dino,
            30_985_229,
            129.1e9,
            6 * (TOKENS + 900) * WEIGHING
            # the last layer alone is predicted, detrex predicts all six
            - 5 * 900 * (CLASS_HEAD + BOX_HEAD)
            # only chosen proposals get boxes, in detrex all
            - (TOKENS - 900) * BOX_HEAD,
        ),
        (
            deformable_detr,
            23_533_005,
            80.2e9,
            6 * (TOKENS + 300) * WEIGHING - 5 * 300 * (CLASS_HEAD + BOX_HEAD),
        ),
        (
            dab_detr,
            30_968_713,
            30.9e9,
            # fvcore has no rule for `baddbmm`, detrex's masked query times key
            6 * 546 * 546 * 256 - 5 * 300 * (CLASS_HEAD + BOX_HEAD),
        ),
    ],
    ids=["dino", "deformable_detr", "dab_detr"],
)
def test_full_size_equals_detrex_but_for_what_is_known(config, parameters, detrex, difference):
    detector = instantiate(config(depth=18, num_classes=7))
    assert sum(parameter.numel() for parameter in detector.parameters()) == parameters
    flops = count_flops(detector, image(3, 402, 1333))
    assert flops.total == pytest.approx(detrex + difference, abs=0.05e9)  # given to 0.1 G
    assert all(count > 0 for count in flops.by_part.values())
