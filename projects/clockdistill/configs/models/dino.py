"""Configs of DINO: at the papers' size on a ResNet, and a small one for the CPU."""

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from projects.clockdistill.configs.models import parts  # lazy configs import no module relatively
from projects.clockdistill.modeling.detectors.dino.denoising import DINOCriterion
from projects.clockdistill.modeling.detectors.dino.detector import DINO
from projects.clockdistill.modeling.detectors.dino.transformer import (
    DINOTransformer,
    DINOTransformerDecoder,
)
from projects.clockdistill.modeling.detectors.multi_scale.transformer import (
    DeformableTransformerEncoder,
)


def dino(depth: int = 50, num_classes: int = 80, num_queries: int = 900) -> DictConfig:
    """Returns DINO with 4 levels on a ResNet with frozen normalisation (ImageNet weights).

    Source: DINO (arXiv:2203.03605), appendix D; denoising with 100 queries and label noise 0.5 as
    in its 4-scale configuration.

    Args:
        depth: 18, 34, 50, 101 or 152.
        num_classes: classes; the criterion follows `model.num_classes`.
        num_queries: matching queries; the transformer follows `model.num_queries`.
    """
    return _config(
        parts.resnet(depth),
        parts.channel_mapper(parts.resnet_channels(depth), norm_groups=32),
        num_classes=num_classes,
        num_queries=num_queries,
        num_levels=4,
        embed_dim=256,
        num_heads=8,
        feedforward_dim=2048,
        num_layers=6,
        dn_number=100,
        detections=300,
    )


def mini_dino(
    num_classes: int = 7,
    stem_channels: int = 16,
    channels: tuple[int, ...] = (16, 32, 64, 80),
) -> DictConfig:
    """Returns DINO with 3 levels that trains from scratch on a CPU, images of about 320 x 96.

    The normalisation of the backbone trains. The defaults, ResNet-18's blocks at a quarter of its
    width and less, give a student of 0.6 M parameters; a stem of 24 and stages of (24, 48, 96, 120)
    give a teacher of 1.1 M.

    Args:
        num_classes: classes; the criterion follows `model.num_classes`.
        stem_channels: channels of the backbone's first convolution.
        channels: channels of the four residual stages.
    """
    return _config(
        parts.basic_resnet(stem_channels, channels),
        parts.channel_mapper(channels, norm_groups=8),
        num_classes=num_classes,
        num_queries=60,
        num_levels=3,
        embed_dim=64,
        num_heads=4,
        feedforward_dim=128,
        num_layers=2,
        # 7 denoising groups where the busiest image of a batch has 8 objects: 60 // 8
        dn_number=60,
        detections=60,
    )


def mid_dino(
    num_classes: int = 7,
    stem_channels: int = 16,
    channels: tuple[int, ...] = (16, 32, 64, 80),
) -> DictConfig:
    """Returns DINO with the paper's width and few layers, for studies on a CPU.

    Backbone and images are those of `mini_dino`. Embeddings of 256 channels in 8 heads give memory,
    logits and queries the sizes that the paper's coefficients belong to.

    Args:
        num_classes: classes; the criterion follows `model.num_classes`.
        stem_channels: channels of the backbone's first convolution.
        channels: channels of the four residual stages.
    """
    return _config(
        parts.basic_resnet(stem_channels, channels),
        parts.channel_mapper(channels, norm_groups=32),
        num_classes=num_classes,
        num_queries=100,
        num_levels=3,
        embed_dim=256,
        num_heads=8,
        feedforward_dim=512,
        num_layers=2,
        dn_number=60,
        detections=100,
    )


def _config(
    backbone: DictConfig,
    neck: DictConfig,
    *,
    num_classes: int,
    num_queries: int,
    num_levels: int,
    embed_dim: int,
    num_heads: int,
    feedforward_dim: int,
    num_layers: int,
    dn_number: int,
    detections: int,
) -> DictConfig:
    """Returns the whole config. Sizes that must agree are set at its root, once."""
    layers = parts.layers(
        num_layers,
        num_heads,
        feedforward_dim,
        dropout=0.0,
        num_feature_levels="${..num_feature_levels}",
    )
    return L(DINO)(
        backbone=backbone,
        position_embedding=parts.sine_positions(embed_dim),
        neck=neck,
        transformer=L(DINOTransformer)(
            encoder=L(DeformableTransformerEncoder)(**layers),
            decoder=L(DINOTransformerDecoder)(**layers, look_forward_twice=True),
            num_feature_levels=num_levels,
            two_stage_num_proposals="${..num_queries}",
        ),
        embed_dim=embed_dim,
        num_classes=num_classes,
        num_queries=num_queries,
        aux_loss=True,
        criterion=parts.criterion(DINOCriterion),
        select_box_nums_for_evaluation=detections,
        dn_number=dn_number,
        label_noise_ratio=0.5,
        box_noise_scale=1.0,
        **parts.PIXELS,
    )
