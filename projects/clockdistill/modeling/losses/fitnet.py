"""FitNet: plain imitation of the neck's features. B images, C channels, H x W cells of a level."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.losses.layers.alignment import FeatureAlignment


class FitNetLoss(nn.Module):
    """Mean squared error between the teacher's features and the student's adapted ones.

    Source: CLoCKDistill (arXiv:2502.10683), eq. (1), after FitNets (arXiv:1412.6550), sec. 2.2.
    The mean is over channels and over the cells that are not padding, image by image; levels are
    added up and images averaged. The adaptation f is always a 1x1 convolution, also where the
    widths agree and eq. (1) would need none: FitNets' regressor is part of the method, and with
    it the student's features need only hold what the teacher's hold, not equal them.

    Table 1's "Backbone Features" and Table 4's FitNet are this same loss: the paper's figures for
    the two agree digit for digit.

    Args:
        student_dim: channels of the student's features.
        teacher_dim: C.
        num_levels: how many levels the features have.
        weight: of the loss (the paper names none).
    """

    weight_names = ("weight",)

    def __init__(self, student_dim: int, teacher_dim: int, num_levels: int, weight: float = 1.0):
        super().__init__()
        self.alignment = FeatureAlignment(student_dim, teacher_dim, num_levels, always=True)
        self.weight = weight

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
        levels = []
        for pair in self.alignment(student, teacher, masks):
            error = (pair.student - pair.teacher).square().mean(dim=1)  # (B, H, W), 0 on padding
            levels.append((error.sum((1, 2)) / pair.num_valid).mean())
        return self.weight * torch.stack(levels).sum()
