"""DINO as trees of calls: at the papers' size on a ResNet, and a small one for the CPU."""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import BasicStem, ResNet
from omegaconf import DictConfig
from torch import nn

from projects.clockdistill.modeling.detectors.backbone import basic_stages
from projects.clockdistill.modeling.detectors.criterion import DINOCriterion
from projects.clockdistill.modeling.detectors.dino import DINO
from projects.clockdistill.modeling.detectors.dino_decoder import DINOTransformerDecoder
from projects.clockdistill.modeling.detectors.dino_encoder import DINOTransformerEncoder
from projects.clockdistill.modeling.detectors.dino_transformer import DINOTransformer
from projects.clockdistill.modeling.detectors.layers.position_encoding import PositionEmbeddingSine
from projects.clockdistill.modeling.detectors.matcher import HungarianMatcher
from projects.clockdistill.modeling.detectors.neck import ChannelMapper

FEATURES = ("res3", "res4", "res5")


def dino(depth: int = 50, num_classes: int = 80, num_queries: int = 900) -> DictConfig:
    """DINO with 4 levels on a ResNet with frozen normalisation, which needs ImageNet weights.

    Source: DINO (arXiv:2203.03605), appendix D; denoising with 100 queries and label noise 0.5 as
    in its 4-scale configuration.

    Args:
        depth: 18, 34, 50, 101 or 152.
        num_classes: classes; the criterion follows `model.num_classes`.
        num_queries: matching queries; the transformer follows `model.num_queries`.
    """
    # Weights come from torchvision, whose bottleneck has its stride in the 3x3 convolution.
    bottleneck = {"stride_in_1x1": False} if depth >= 50 else {}
    widths = (512, 1024, 2048) if depth >= 50 else (128, 256, 512)
    backbone = L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=64, norm="FrozenBN"),
        stages=L(ResNet.make_default_stages)(depth=depth, norm="FrozenBN", **bottleneck),
        out_features=list(FEATURES),
        freeze_at=1,
    )
    return _tree(
        backbone,
        widths,
        num_classes=num_classes,
        num_queries=num_queries,
        num_levels=4,
        embed_dim=256,
        num_heads=8,
        feedforward_dim=2048,
        num_layers=6,
        norm_groups=32,
        dn_number=100,
        detections=300,
    )


def mini_dino(
    num_classes: int = 7,
    stem_channels: int = 16,
    channels: tuple[int, ...] = (16, 32, 64, 80),
    blocks: tuple[int, ...] = (2, 2, 2, 2),
) -> DictConfig:
    """DINO with 3 levels that trains from scratch on a CPU, for images of about 320 x 96.

    The normalisation of the backbone trains. The defaults, ResNet-18's blocks at a quarter of its
    width and less, give a student of 0.6 M parameters; a stem of 24 and stages of (24, 48, 96, 120)
    give a teacher of 1.1 M.

    Args:
        num_classes: classes; the criterion follows `model.num_classes`.
        stem_channels: channels of the backbone's first convolution.
        channels: channels of the four residual stages.
        blocks: basic blocks of the four residual stages.
    """
    backbone = L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels="${..stages.stem_channels}", norm="BN"),
        stages=L(basic_stages)(
            stem_channels=stem_channels, channels=list(channels), blocks=list(blocks), norm="BN"
        ),
        out_features=list(FEATURES),
        freeze_at=0,
    )
    return _tree(
        backbone,
        channels[1:],
        num_classes=num_classes,
        num_queries=60,
        num_levels=3,
        embed_dim=64,
        num_heads=4,
        feedforward_dim=128,
        num_layers=2,
        norm_groups=8,
        # 7 denoising groups where the busiest image of a batch has 8 objects: 60 // 8
        dn_number=60,
        detections=60,
    )


def _tree(
    backbone: DictConfig,
    widths: tuple[int, ...],
    *,
    num_classes: int,
    num_queries: int,
    num_levels: int,
    embed_dim: int,
    num_heads: int,
    feedforward_dim: int,
    num_layers: int,
    norm_groups: int,
    dn_number: int,
    detections: int,
) -> DictConfig:
    """The whole tree. Sizes that must agree stand once, at the root, and are tied to it."""
    layers = {
        "embed_dim": "${...embed_dim}",
        "num_heads": num_heads,
        "feedforward_dim": feedforward_dim,
        "attn_dropout": 0.0,
        "ffn_dropout": 0.0,
        "num_layers": num_layers,
        "num_feature_levels": "${..num_feature_levels}",
    }
    return L(DINO)(
        backbone=backbone,
        position_embedding=L(PositionEmbeddingSine)(
            num_pos_feats=embed_dim // 2, temperature=10000, normalize=True, offset=-0.5
        ),
        neck=L(ChannelMapper)(
            # Not detectron2's ShapeSpec: a tuple in v0.6 and a dataclass later, of which omegaconf
            # makes different things.
            input_shapes={name: {"channels": w} for name, w in zip(FEATURES, widths, strict=True)},
            in_features=list(FEATURES),
            out_channels="${..embed_dim}",
            num_outs="${..transformer.num_feature_levels}",
            kernel_size=1,
            norm_layer=L(nn.GroupNorm)(num_groups=norm_groups, num_channels="${...embed_dim}"),
        ),
        transformer=L(DINOTransformer)(
            encoder=L(DINOTransformerEncoder)(**layers),
            decoder=L(DINOTransformerDecoder)(**layers, look_forward_twice=True),
            num_feature_levels=num_levels,
            two_stage_num_proposals="${..num_queries}",
        ),
        embed_dim=embed_dim,
        num_classes=num_classes,
        num_queries=num_queries,
        aux_loss=True,
        criterion=L(DINOCriterion)(
            num_classes="${..num_classes}",
            matcher=L(HungarianMatcher)(cost_class=2.0, cost_bbox=5.0, cost_giou=2.0),
            weight_dict={"loss_class": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0},
        ),
        pixel_mean=[123.675, 116.280, 103.530],
        pixel_std=[58.395, 57.120, 57.375],
        select_box_nums_for_evaluation=detections,
        dn_number=dn_number,
        label_noise_ratio=0.5,
        box_noise_scale=1.0,
        input_format="RGB",
    )
