"""Memory distillation. Shapes: B images, S tokens over all levels, D channels."""

from torch import Tensor, nn


class MemoryDistillLoss(nn.Module):
    """Weighted squared error between student and teacher memory, summed over channels.

    Source: CLoCKDistill (arXiv:2502.10683), eq. (5). Differs: averaged over the batch, so that
    the loss does not grow with the number of images. Where the widths differ, a linear layer
    (the f of eq. (1)) brings the student's memory to the teacher's width; it trains with the
    student and is no part of it.

    Args:
        student_dim: D of the student.
        teacher_dim: D of the teacher.
    """

    def __init__(self, student_dim: int, teacher_dim: int):
        super().__init__()
        same = student_dim == teacher_dim
        self.adaptation = nn.Identity() if same else nn.Linear(student_dim, teacher_dim)

    def forward(self, student: Tensor, teacher: Tensor, token_weights: Tensor) -> Tensor:
        """Compares the memories of a batch.

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
                f"student memory of shape {tuple(student.shape)}, teacher memory of shape "
                f"{tuple(teacher.shape)}. Fix: give both the same feature levels"
            )
        teacher = teacher.detach().float().masked_fill(hidden, 0)
        errors = (student - teacher).square().sum(dim=-1)  # (B, S)
        return (token_weights * errors).sum(dim=1).mean()
