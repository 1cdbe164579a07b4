"""Features of student and teacher, level by level, of one width and without padding.

Letters: B images, C channels of the teacher, H x W cells of one level.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class LevelPair:
    """One level of both.

    Attributes:
        student: (B, C, H, W) float32 at the teacher's width, 0 on padding.
        teacher: (B, C, H, W) float32 without gradient, 0 on padding.
        valid: (B, 1, H, W) bool, False = padding.
    """

    student: Tensor
    teacher: Tensor
    valid: Tensor

    @property
    def num_valid(self) -> Tensor:
        """(B,) cells that are not padding, at least 1."""
        return self.valid.sum((1, 2, 3)).clamp(min=1)


class FeatureAlignment(nn.Module):
    """Brings the student's features to the teacher's width, by one 1x1 convolution per level.

    It is the f of CLoCKDistill's eq. (1) (arXiv:2502.10683): it trains with the student and is no
    part of it. Padding is set to 0 before the convolution, so that its values reach neither the
    weights nor a softmax, and after it, because of the bias.

    Args:
        student_dim: channels of the student's features.
        teacher_dim: C.
        num_levels: how many levels the features have.
        always: put the convolution in even where the widths agree.
    """

    def __init__(self, student_dim: int, teacher_dim: int, num_levels: int, always: bool = False):
        super().__init__()
        trains = always or student_dim != teacher_dim
        self.convs = nn.ModuleList(
            nn.Conv2d(student_dim, teacher_dim, kernel_size=1) if trains else nn.Identity()
            for _ in range(num_levels)
        )

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> list[LevelPair]:
        """Aligns the features of a batch.

        Args:
            student: per level (B, channels of the student, H, W).
            teacher: per level (B, C, H, W); receives no gradient.
            masks: per level (B, H, W) bool, True = padding.

        Raises:
            ValueError: if the numbers of levels, or the sizes or widths of a level, disagree.
        """
        if not len(student) == len(teacher) == len(masks) == len(self.convs):
            raise ValueError(
                f"{len(student)} levels of the student's features, {len(teacher)} of the "
                f"teacher's and {len(masks)} masks, but num_levels={len(self.convs)}. Fix: set "
                "num_levels to the levels of both"
            )
        pairs = []
        for level, conv in enumerate(self.convs):
            padding = masks[level][:, None]
            student_map = conv(student[level].float().masked_fill(padding, 0)).float()
            teacher_map = teacher[level].detach().float()
            if student_map.shape != teacher_map.shape:
                raise ValueError(
                    f"level {level} differs: student {tuple(student_map.shape)} at the teacher's "
                    f"width, teacher {tuple(teacher_map.shape)}. Fix: give both the same strides, "
                    "and set student_dim and teacher_dim to the widths of their features"
                )
            pairs.append(
                LevelPair(
                    student_map.masked_fill(padding, 0),
                    teacher_map.masked_fill(padding, 0),
                    ~padding,
                )
            )
        return pairs
