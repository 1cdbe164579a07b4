"""MGD: masked generative distillation. B images, C channels, H x W cells of a level."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.transfers import to_device
from projects.clockdistill.modeling.losses.layers.alignment import FeatureAlignment, LevelPair
from projects.clockdistill.modeling.step_random import StepRandom


class MGDLoss(nn.Module):
    """Squared error between the teacher's features and those generated from part of the student's.

    Source: MGD (arXiv:2205.01529), sec. 3: cells of the student's map are dropped at random, all
    channels of a cell together, two 3x3 convolutions with a ReLU between generate the teacher's
    map from the rest, and the error is summed over channels and cells and averaged over images.
    Where the widths differ, a 1x1 convolution comes first. Each level has layers of its own.

    Padding is 0 before either 3x3 convolution, as what lies beyond a map is, so an image gives
    the same in any batch; padded cells have no error.

    Args:
        student_dim: channels of the student's features.
        teacher_dim: C.
        num_levels: how many levels the features have.
        weight: alpha (its public configs for one-stage detectors: 2e-5).
        mask_ratio: lambda, the chance of a cell to be dropped (one-stage detectors: 0.65).
        seed: of the draws, which leave torch's global generator alone and are saved with the run.
    """

    weight_names = ("weight",)

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        num_levels: int,
        weight: float = 2e-5,
        mask_ratio: float = 0.65,
        seed: int = 0,
    ):
        super().__init__()
        if not 0 <= mask_ratio < 1:
            raise ValueError(f"mask_ratio={mask_ratio} must be at least 0 and below 1")
        self.alignment = FeatureAlignment(student_dim, teacher_dim, num_levels)
        self.generation = nn.ModuleList(_Generation(teacher_dim) for _ in range(num_levels))
        self.weight = weight
        self.mask_ratio = mask_ratio
        self.draws = StepRandom(seed)

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
            targets: not read; all feature losses take the same arguments.

        Returns:
            Weighted scalar in float32.
        """
        pairs = self.alignment(student, teacher, masks)
        levels = [
            self._level(pair, generation)
            for pair, generation in zip(pairs, self.generation, strict=True)
        ]
        return self.weight * torch.stack(levels).sum()

    def _level(self, pair: LevelPair, generation: "_Generation") -> Tensor:
        draw = to_device(self.draws.uniform(tuple(pair.valid.shape)), pair.student.device)
        visible = pair.student.masked_fill(draw < self.mask_ratio, 0)
        error = (generation(visible, pair.valid) - pair.teacher).square()
        return error.sum() / len(error)


class _Generation(nn.Module):
    """MGD's projector of one level."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(dim, dim, kernel_size=3, padding=1)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, C, H, W) with 0 on padding -> the same in float32; `valid` (B, 1, H, W) bool."""
        hidden = self.conv1(x).relu().masked_fill(~valid, 0)
        return self.conv2(hidden).float().masked_fill(~valid, 0)
