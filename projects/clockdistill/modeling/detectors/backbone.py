"""Narrow residual stages for detectors that train from scratch on a CPU."""

from collections.abc import Sequence

from detectron2.modeling.backbone.resnet import BasicBlock, CNNBlockBase, ResNet


def basic_stages(
    stem_channels: int, channels: Sequence[int], blocks: Sequence[int], norm: str
) -> list[list[CNNBlockBase]]:
    """Stages of basic blocks for detectron2's `ResNet`, with widths and depths of one's own.

    Source: Deep Residual Learning (arXiv:1512.03385), table 1, 18 layers; strides as there.

    Args:
        stem_channels: channels that the stem gives.
        channels: channels of each stage, res2 first.
        blocks: blocks of each stage.
        norm: detectron2's name of the normalisation, e.g. "BN"; "FrozenBN" does not train.

    Returns:
        The blocks of each stage; the first has stride 1, every further one stride 2.
    """
    if len(channels) != len(blocks):
        raise ValueError(f"{len(channels)} stage widths but {len(blocks)} stage depths")
    inputs = [stem_channels, *channels[:-1]]
    return [
        ResNet.make_stage(
            BasicBlock,
            depth,
            in_channels=fan_in,
            out_channels=fan_out,
            stride_per_block=[1 if stage == 0 else 2] + [1] * (depth - 1),
            norm=norm,
        )
        for stage, (fan_in, fan_out, depth) in enumerate(zip(inputs, channels, blocks, strict=True))
    ]
