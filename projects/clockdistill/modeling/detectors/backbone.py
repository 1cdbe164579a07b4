"""Narrow residual stages for detectors that train from scratch on a CPU."""

from collections.abc import Sequence

from detectron2.modeling.backbone.resnet import BasicBlock, CNNBlockBase, ResNet


def basic_stages(
    stem_channels: int,
    channels: Sequence[int],
    blocks: Sequence[int],
    norm: str,
    last_stride: int = 2,
) -> list[list[CNNBlockBase]]:
    """Builds stages of basic blocks for detectron2's `ResNet`, of any widths and depths.

    Source: Deep Residual Learning (arXiv:1512.03385), table 1, 18 layers; strides as there but for
    `last_stride`.

    Args:
        stem_channels: channels that the stem gives.
        channels: channels of each stage, res2 first.
        blocks: blocks of each stage.
        norm: detectron2's name of the normalisation, e.g. "BN"; "FrozenBN" does not train.
        last_stride: of the last stage; 1 gives four times the tokens, which a detector on that
            stage alone needs where images are small.

    Returns:
        The blocks of each stage; the first has stride 1, those between it and the last 2.
    """
    if len(channels) != len(blocks):
        raise ValueError(f"{len(channels)} stage widths but {len(blocks)} stage depths")
    inputs = [stem_channels, *channels[:-1]]
    strides = [1] + [2] * (len(channels) - 2) + [last_stride]
    return [
        ResNet.make_stage(
            BasicBlock,
            depth,
            in_channels=fan_in,
            out_channels=fan_out,
            stride_per_block=[stride] + [1] * (depth - 1),
            norm=norm,
        )
        for fan_in, fan_out, depth, stride in zip(inputs, channels, blocks, strides, strict=True)
    ]
