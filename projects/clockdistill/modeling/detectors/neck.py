"""From the backbone's features to feature levels of one width."""

import copy
from collections.abc import Mapping, Sequence

from detectron2.layers import ShapeSpec
from torch import Tensor, nn


class ConvNorm(nn.Module):
    """A convolution and, if given, its normalisation."""

    def __init__(self, conv: nn.Conv2d, norm: nn.Module | None):
        super().__init__()
        self.conv = conv
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C_in, H, W) to (B, C_out, H', W')."""
        x = self.conv(x)
        return x if self.norm is None else self.norm(x)


class ChannelMapper(nn.Module):
    """Brings each feature to `out_channels`; further levels by 3x3 convolutions of stride 2.

    Source: Deformable DETR (arXiv:2010.04159), section 4.2 and appendix A.2.

    Args:
        input_shapes: per feature detectron2's ShapeSpec, or a mapping with "channels".
        in_features: names of the features to use, fine to coarse.
        out_channels: width of every level.
        num_outs: number of levels; at least one per feature.
        kernel_size: of the convolutions on the given features.
        norm_layer: copied for every level.

    Raises:
        ValueError: if a feature has no shape or there are fewer levels than features.
    """

    def __init__(
        self,
        input_shapes: Mapping[str, ShapeSpec | Mapping[str, int]],
        in_features: Sequence[str],
        out_channels: int,
        num_outs: int,
        kernel_size: int = 1,
        norm_layer: nn.Module | None = None,
    ):
        super().__init__()
        missing = [name for name in in_features if name not in input_shapes]
        if missing:
            raise ValueError(f"neck.input_shapes lacks {missing}; it has {list(input_shapes)}")
        if num_outs < len(in_features):
            raise ValueError(
                f"neck.num_outs={num_outs} is less than its {len(in_features)} features; "
                f"shorten neck.in_features={list(in_features)}"
            )
        self.in_features = list(in_features)
        channels = [_channels(input_shapes[name]) for name in in_features]
        self.convs = nn.ModuleList(
            ConvNorm(
                nn.Conv2d(width, out_channels, kernel_size, padding=kernel_size // 2),
                copy.deepcopy(norm_layer),
            )
            for width in channels
        )
        extra = num_outs - len(channels)
        # The first extra level reads the backbone's last feature, each further one its forerunner.
        widths = [channels[-1]] + [out_channels] * (extra - 1)
        self.extra_convs = nn.ModuleList(
            ConvNorm(
                nn.Conv2d(width, out_channels, 3, stride=2, padding=1), copy.deepcopy(norm_layer)
            )
            for width in widths[:extra]
        )

    def forward(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """Maps named features (B, C, H, W) to levels (B, out_channels, H_l, W_l)."""
        inputs = [features[name] for name in self.in_features]
        levels = [conv(x) for conv, x in zip(self.convs, inputs, strict=True)]
        last = inputs[-1]
        for conv in self.extra_convs:
            last = conv(last)
            levels.append(last)
        return levels


def _channels(shape: ShapeSpec | Mapping[str, int]) -> int:
    return shape["channels"] if isinstance(shape, Mapping) else shape.channels
