"""Configs of DAB-DETR: at the papers' size on a ResNet, and a small one for the CPU."""

from detectron2.config import LazyCall as L
from omegaconf import DictConfig
from torch import nn

from projects.clockdistill.configs.models import parts  # lazy configs import no module relatively
from projects.clockdistill.modeling.detectors.dab_detr.detector import DABDETR
from projects.clockdistill.modeling.detectors.dab_detr.transformer import (
    DABDETRTransformer,
    DABDETRTransformerDecoder,
    DABDETRTransformerEncoder,
)


def dab_detr(depth: int = 50, num_classes: int = 80, num_queries: int = 300) -> DictConfig:
    """Returns DAB-DETR on a ResNet's last level, with frozen normalisation (ImageNet weights).

    Source: DAB-DETR (arXiv:2201.12329), section 5 and appendix; no dropout and temperature 20 as
    in its R50 configuration.

    Args:
        depth: 18, 34, 50, 101 or 152.
        num_classes: classes; the criterion follows `model.num_classes`.
        num_queries: anchors.
    """
    return _config(
        parts.resnet(depth, ["res5"]),
        parts.resnet_channels(depth)[3],
        num_classes=num_classes,
        num_queries=num_queries,
        embed_dim=256,
        num_heads=8,
        feedforward_dim=2048,
        num_layers=6,
        detections=300,
    )


def mini_dab_detr(
    num_classes: int = 7,
    stem_channels: int = 16,
    channels: tuple[int, ...] = (16, 32, 64, 80),
) -> DictConfig:
    """Returns DAB-DETR that trains from scratch on a CPU, for images of about 320 x 96.

    Its last stage keeps the resolution of the one before, so that an image has 120 tokens, not 30.

    Args:
        num_classes: classes; the criterion follows `model.num_classes`.
        stem_channels: channels of the backbone's first convolution.
        channels: channels of the four residual stages.
    """
    return _config(
        parts.basic_resnet(stem_channels, channels, ["res5"], last_stride=1),
        channels[3],
        num_classes=num_classes,
        num_queries=60,
        embed_dim=64,
        num_heads=4,
        feedforward_dim=128,
        num_layers=2,
        detections=60,
    )


def _config(
    backbone: DictConfig,
    in_channels: int,
    *,
    num_classes: int,
    num_queries: int,
    embed_dim: int,
    num_heads: int,
    feedforward_dim: int,
    num_layers: int,
    detections: int,
) -> DictConfig:
    """Returns the whole config. Sizes that must agree are set at its root, once."""
    encoder, decoder = (
        parts.layers(num_layers, num_heads, feedforward_dim, dropout=0.0, activation=L(nn.PReLU)())
        for _ in range(2)
    )
    return L(DABDETR)(
        backbone=backbone,
        in_features=["res5"],
        in_channels=in_channels,
        position_embedding=parts.sine_positions(embed_dim, temperature=20, offset=0.0),
        transformer=L(DABDETRTransformer)(
            encoder=L(DABDETRTransformerEncoder)(**encoder),
            decoder=L(DABDETRTransformerDecoder)(**decoder, modulate_hw_attn=True),
            num_patterns=0,
        ),
        embed_dim=embed_dim,
        num_classes=num_classes,
        num_queries=num_queries,
        criterion=parts.criterion(),
        aux_loss=True,
        freeze_anchor_box_centers=True,
        select_box_nums_for_evaluation=detections,
        **parts.PIXELS,
    )
