"""Memory distillation. Shapes: B images, S tokens over all levels, D channels."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn


class MemoryDistillLoss(nn.Module):
    """Weighted squared error between student and teacher memory, summed over channels.

    Source: CLoCKDistill (arXiv:2502.10683), eq. (5). Differs: averaged over the batch, so that
    the loss does not grow with the number of images. Where the widths differ, a linear layer
    (the f of eq. (1)) takes the student's memory to the teacher's width; it trains with the
    student and is no part of it.

    Beyond the paper, a token's error may be 1 - cosine: blind to the length of a token, and in
    [0, 2] whatever D is, so that it wants larger token weights than the squared error.

    Args:
        student_dim: D of the student.
        teacher_dim: D of the teacher.
        distance: "squared" error, as in the paper, or "cosine".
    """

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        distance: Literal["squared", "cosine"] = "squared",
    ):
        super().__init__()
        if distance not in ("squared", "cosine"):
            raise ValueError(f"distance={distance!r} must be 'squared' or 'cosine'")
        same = student_dim == teacher_dim
        self.adaptation = nn.Identity() if same else nn.Linear(student_dim, teacher_dim)
        self.distance = distance

    def forward(self, student: Tensor, teacher: Tensor, token_weights: Tensor) -> Tensor:
        """
        Args:
            student: (B, S, D of the student) memory.
            teacher: (B, S, D of the teacher) memory; receives no gradient.
            token_weights: (B, S) >= 0, alpha*M*S + beta*(1-M)*S of eq. (5); 0 on padding.

        Returns:
            Scalar in float32; 0 if every token weight is 0.

        Raises:
            ValueError: if the memories differ in shape, after adaptation.
        """
        # A weight of 0 must hide whatever a padded cell holds, infinities included, from the
        # value and from every gradient.
        hidden = (token_weights == 0)[..., None]
        student = self.adaptation(student.masked_fill(hidden, 0)).float()
        if student.shape != teacher.shape:
            raise ValueError(
                f"memory differs: student {tuple(student.shape)}, teacher {tuple(teacher.shape)}; "
                "both need the same feature levels"
            )
        teacher = teacher.detach().float().masked_fill(hidden, 0)
        return (token_weights * self._error(student, teacher)).sum(dim=1).mean()

    def _error(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(B, S)."""
        if self.distance == "cosine":
            return 1 - F.cosine_similarity(student, teacher, dim=-1)
        return (student - teacher).square().sum(dim=-1)
