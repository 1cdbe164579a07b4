"""Parts of the configs of all detector families. Each call returns a config of its own.

Sizes that must agree are set once, at a detector's root (`embed_dim`, `num_classes`,
`num_queries`), and the parts refer to it: they are directly below the root, encoder and decoder
one level further down.
"""

from collections.abc import Sequence
from typing import Any

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import BasicStem, ResNet
from omegaconf import DictConfig
from torch import nn

from projects.clockdistill.modeling.detectors.backbone import basic_stages
from projects.clockdistill.modeling.detectors.criterion import SetCriterion
from projects.clockdistill.modeling.detectors.layers.position_encoding import PositionEmbeddingSine
from projects.clockdistill.modeling.detectors.matcher import HungarianMatcher
from projects.clockdistill.modeling.detectors.neck import ChannelMapper

STAGES = ("res2", "res3", "res4", "res5")
FEATURES = ("res3", "res4", "res5")  # what the multi-scale detectors read
# Mean and deviation of ImageNet's images, which the backbones' weights come from.
PIXELS = {
    "pixel_mean": (123.675, 116.280, 103.530),
    "pixel_std": (58.395, 57.120, 57.375),
    "input_format": "RGB",
}

# The small teachers' backbone, half as wide again as the small students'.
MINI_TEACHER = {"stem_channels": 24, "channels": (24, 48, 96, 120)}
# Where the small backbones start from, as the large ones do from ImageNet's weights; the teacher's
# for teachers with few labels.
MINI_BACKBONE = "projects/clockdistill/weights/r18_synthkitti.safetensors"
MINI_TEACHER_BACKBONE = "projects/clockdistill/weights/r50_synthkitti.safetensors"
# The trained teachers of mini/dino_r18_synthkitti and mid/dino_r18_synthkitti.
MINI_TEACHER_CHECKPOINT = "projects/clockdistill/weights/dino_r50_synthkitti.safetensors"
MID_TEACHER_CHECKPOINT = "projects/clockdistill/weights/mid_dino_r50_synthkitti.safetensors"


def resnet(depth: int, out_features: Sequence[str] = FEATURES) -> DictConfig:
    """Returns a ResNet with frozen normalisation, which needs ImageNet weights.

    Args:
        depth: 18, 34, 50, 101 or 152.
        out_features: stages whose features it returns.
    """
    # Weights come from torchvision, whose bottleneck has its stride in the 3x3 convolution.
    bottleneck = {"stride_in_1x1": False} if depth >= 50 else {}
    return L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=64, norm="FrozenBN"),
        stages=L(ResNet.make_default_stages)(depth=depth, norm="FrozenBN", **bottleneck),
        out_features=list(out_features),
        freeze_at=1,
    )


def resnet_channels(depth: int) -> tuple[int, ...]:
    """Returns the channels of the four `STAGES` of `resnet(depth)`."""
    return (256, 512, 1024, 2048) if depth >= 50 else (64, 128, 256, 512)


def basic_resnet(
    stem_channels: int,
    channels: Sequence[int],
    out_features: Sequence[str] = FEATURES,
    last_stride: int = 2,
) -> DictConfig:
    """Returns a narrow ResNet-18 whose normalisation trains: it needs no weights.

    Args:
        stem_channels: channels of the first convolution.
        channels: channels of the four residual stages.
        out_features: stages whose features it returns.
        last_stride: of the last stage.
    """
    return L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels="${..stages.stem_channels}", norm="BN"),
        stages=L(basic_stages)(
            stem_channels=stem_channels,
            channels=list(channels),
            blocks=[2, 2, 2, 2],
            norm="BN",
            last_stride=last_stride,
        ),
        out_features=list(out_features),
        freeze_at=0,
    )


def sine_positions(embed_dim: int, temperature: float = 10000, offset: float = -0.5) -> DictConfig:
    """Returns position encodings of `embed_dim` channels; by default the multi-scale detectors'."""
    return L(PositionEmbeddingSine)(
        num_pos_feats=embed_dim // 2, temperature=temperature, normalize=True, offset=offset
    )


def channel_mapper(channels: Sequence[int], norm_groups: int) -> DictConfig:
    """Returns a neck on `FEATURES` with the root's width and the transformer's number of levels.

    Args:
        channels: channels of the backbone's four `STAGES`.
        norm_groups: groups of the normalisation behind each convolution.
    """
    widths = dict(zip(STAGES, channels, strict=True))
    return L(ChannelMapper)(
        # Not detectron2's ShapeSpec: omegaconf treats a tuple (v0.6) and a dataclass (later)
        # differently.
        input_shapes={name: {"channels": widths[name]} for name in FEATURES},
        in_features=list(FEATURES),
        out_channels="${..embed_dim}",
        num_outs="${..transformer.num_feature_levels}",
        kernel_size=1,
        norm_layer=L(nn.GroupNorm)(num_groups=norm_groups, num_channels="${...embed_dim}"),
    )


def layers(
    num_layers: int, num_heads: int, feedforward_dim: int, dropout: float, **options: Any
) -> dict[str, Any]:
    """Returns the arguments of an encoder or decoder.

    Args:
        num_layers: layers.
        num_heads: attention heads.
        feedforward_dim: hidden width of the feed-forward parts.
        dropout: in attention and feed-forward parts.
        options: further arguments of the family.
    """
    return {
        "embed_dim": "${...embed_dim}",
        "num_heads": num_heads,
        "feedforward_dim": feedforward_dim,
        "attn_dropout": dropout,
        "ffn_dropout": dropout,
        "num_layers": num_layers,
        **options,
    }


def criterion(kind: type[SetCriterion] = SetCriterion) -> DictConfig:
    """Returns DETR's losses with their usual weights, class costs twice the class loss.

    Source: Deformable DETR (arXiv:2010.04159), appendix A.4.
    """
    return L(kind)(
        num_classes="${..num_classes}",
        matcher=L(HungarianMatcher)(cost_class=2.0, cost_bbox=5.0, cost_giou=2.0),
        weight_dict={"loss_class": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0},
    )
