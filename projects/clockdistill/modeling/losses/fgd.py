"""FGD: focal and global distillation. B images, C channels, H x W cells of a level."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.losses.layers.alignment import FeatureAlignment, LevelPair
from projects.clockdistill.modeling.losses.layers.gc_block import GcBlock
from projects.clockdistill.modeling.token_weights import box_masks


class FGDLoss(nn.Module):
    """Feature error weighted by boxes and the teacher's attention, attention error, global error.

    Source: FGD (arXiv:2111.11837), sec. 3.1 (focal) and 3.2 (global); sums are over channels and
    cells, levels are added up and images averaged, as in its public code:

    - Feature: the squared error of a channel of a cell, times the teacher's spatial attention of
      the cell, its attention of the channel and the cell's weight by box scale, which `box_masks`
      gives. (FGD's public code takes boxes one row and one column larger.)
    - Attention: L1 distance between the attentions of teacher and student.
    - Global: squared error between the GcBlocks' outputs. Teacher and student have a block each
      and both train, as in the public code: a frozen one would stay the identity that it starts
      as. The teacher's features get no gradient through it.

    Only cells that are not padding are attended to, averaged and counted, so an image gives the
    same in any batch. The default weights are those of one-stage and DETR-type detectors.

    Args:
        student_dim: channels of the student's features.
        teacher_dim: C; a 1x1 convolution brings the student's there where they differ.
        num_levels: how many levels the features have.
        foreground_weight: alpha, feature error in boxes.
        background_weight: beta, feature error elsewhere.
        attention_weight: gamma.
        global_weight: lambda.
        temperature: T of the attentions.
    """

    weight_names = ("foreground_weight", "background_weight", "attention_weight", "global_weight")

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        num_levels: int,
        foreground_weight: float = 1e-3,
        background_weight: float = 5e-4,
        attention_weight: float = 5e-4,
        global_weight: float = 5e-6,
        temperature: float = 0.5,
    ):
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature={temperature} must be positive")
        self.alignment = FeatureAlignment(student_dim, teacher_dim, num_levels)
        self.student_context = nn.ModuleList(GcBlock(teacher_dim) for _ in range(num_levels))
        self.teacher_context = nn.ModuleList(GcBlock(teacher_dim) for _ in range(num_levels))
        self.foreground_weight = foreground_weight
        self.background_weight = background_weight
        self.attention_weight = attention_weight
        self.global_weight = global_weight
        self.temperature = temperature

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        masks: Sequence[Tensor],
        targets: Sequence[dict[str, Tensor]],
    ) -> Tensor:
        """Compares the features of a batch.

        Args:
            student: per level (B, student_dim, H, W).
            teacher: per level (B, C, H, W); receives no gradient.
            masks: per level (B, H, W) bool, True = padding.
            targets: per image "boxes" (N, 4) cxcywh in [0, 1] of the unpadded image.

        Returns:
            Weighted scalar in float32.
        """
        pairs = self.alignment(student, teacher, masks)
        levels = zip(pairs, self.student_context, self.teacher_context, strict=True)
        losses = [self._focal(pair, targets) + self._global(pair, *gc) for pair, *gc in levels]
        return torch.stack(losses).sum() / len(targets)

    def _focal(self, pair: LevelPair, targets: Sequence[dict[str, Tensor]]) -> Tensor:
        """Weighted feature and attention error, summed over images."""
        padding = ~pair.valid[:, 0]
        foreground, background = box_masks(targets, padding)
        weights = self.foreground_weight * foreground + self.background_weight * background
        spatial, channel = self._attention(pair.teacher, pair)
        student_spatial, student_channel = self._attention(pair.student, pair)
        error = (pair.student - pair.teacher).square() * channel[:, :, None, None]
        feature = (error.sum(dim=1) * weights * spatial).sum()
        attention = (student_spatial - spatial).abs().sum() + (
            student_channel - channel
        ).abs().sum()
        return feature + self.attention_weight * attention

    def _attention(self, x: Tensor, pair: LevelPair) -> tuple[Tensor, Tensor]:
        """Spatial attention (B, H, W), 0 on padding, and channel attention (B, C).

        Softmax of the mean size over channels or cells, scaled to a mean of 1.
        """
        size = x.abs()
        scores = (size.mean(1, keepdim=True) / self.temperature).masked_fill(
            ~pair.valid, torch.finfo(x.dtype).min
        )
        spatial = scores.flatten(1).softmax(dim=1) * pair.num_valid[:, None]
        channel = size.sum((2, 3)) / pair.num_valid[:, None]
        return spatial.view_as(x[:, 0]), x.shape[1] * (channel / self.temperature).softmax(dim=1)

    def _global(
        self, pair: LevelPair, student_context: GcBlock, teacher_context: GcBlock
    ) -> Tensor:
        """Weighted error of the global relations, summed over images."""
        student_map = student_context(pair.student, pair.valid)
        teacher_map = teacher_context(pair.teacher, pair.valid)
        return self.global_weight * (student_map - teacher_map).square().sum()
