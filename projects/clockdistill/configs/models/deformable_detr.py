"""Configs of Deformable-DETR: at the papers' size on a ResNet, and a small one for the CPU."""

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from projects.clockdistill.configs.models import parts  # lazy configs import no module relatively
from projects.clockdistill.modeling.detectors.deformable_detr.detector import (
    DeformableCriterion,
    DeformableDETR,
)
from projects.clockdistill.modeling.detectors.deformable_detr.transformer import (
    DeformableDETRTransformer,
)
from projects.clockdistill.modeling.detectors.multi_scale.transformer import (
    DeformableTransformerDecoder,
    DeformableTransformerEncoder,
)


def deformable_detr(depth: int = 50, num_classes: int = 80, num_queries: int = 300) -> DictConfig:
    """Returns Deformable-DETR with 4 levels on a ResNet with frozen normalisation.

    Source: Deformable DETR (arXiv:2010.04159), section 5 and appendix A.2. Without refinement and
    in one stage; `model.with_box_refine=True` and, with it, `model.as_two_stage=True` are its
    variants.

    Args:
        depth: 18, 34, 50, 101 or 152.
        num_classes: classes; the criterion follows `model.num_classes`.
        num_queries: queries; the transformer follows `model.num_queries`.
    """
    config = _config(
        parts.resnet(depth),
        parts.channel_mapper(parts.resnet_channels(depth), norm_groups=32),
        num_classes=num_classes,
        num_queries=num_queries,
        num_levels=4,
        embed_dim=256,
        num_heads=8,
        feedforward_dim=1024,
        dropout=0.1,
        num_layers=6,
        detections=300,
    )
    config.criterion.weight_dict.loss_class = 2.0
    return config


def mini_deformable_detr(
    num_classes: int = 7,
    stem_channels: int = 16,
    channels: tuple[int, ...] = (16, 32, 64, 80),
) -> DictConfig:
    """Returns Deformable-DETR with 3 levels that trains from scratch on a CPU, for small images.

    Images and sizes are those of `mini_dino`. In one stage and without refinement, as the full
    size: after 1,600 steps of the mini schedule on synthkitti 18.7 AP, with
    `model.with_box_refine=True` 24.9.

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
        dropout=0.0,
        num_layers=2,
        detections=60,
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
    dropout: float,
    num_layers: int,
    detections: int,
) -> DictConfig:
    """Returns the whole config. Sizes that must agree are set at its root, once."""
    layers = parts.layers(
        num_layers,
        num_heads,
        feedforward_dim,
        dropout,
        num_feature_levels="${..num_feature_levels}",
    )
    return L(DeformableDETR)(
        backbone=backbone,
        position_embedding=parts.sine_positions(embed_dim),
        neck=neck,
        transformer=L(DeformableDETRTransformer)(
            encoder=L(DeformableTransformerEncoder)(**layers),
            decoder=L(DeformableTransformerDecoder)(**layers),
            num_feature_levels=num_levels,
            as_two_stage="${..as_two_stage}",
            two_stage_num_proposals="${..num_queries}",
        ),
        embed_dim=embed_dim,
        num_classes=num_classes,
        num_queries=num_queries,
        aux_loss=True,
        with_box_refine=False,
        as_two_stage=False,
        criterion=parts.criterion(DeformableCriterion),
        select_box_nums_for_evaluation=detections,
        **parts.PIXELS,
    )
