"""The teacher's classes seen as the student's."""

from collections.abc import Sequence

import torch
from detectron2.structures import Instances
from torch import Tensor, nn


class ClassMap(nn.Module):
    """Takes the teacher's logits and detections to the student's classes.

    Args:
        student_classes: K of the student.
        teacher_classes: K of the teacher.
        teacher_class: for each of the student's classes the teacher's index; several may share
            one. None = both know the same classes in the same order.

    Raises:
        ValueError: if there is no map where one is needed, or one that does not fit.
    """

    def __init__(
        self, student_classes: int, teacher_classes: int, teacher_class: Sequence[int] | None
    ):
        super().__init__()
        if teacher_class is None:
            if student_classes != teacher_classes:
                raise ValueError(
                    f"student.num_classes={student_classes} but teacher.num_classes="
                    f"{teacher_classes}: both must know the same classes, or class_map must give "
                    "the teacher's class for each of the student's"
                )
            teacher_class = range(student_classes)
            self.same = True
        else:
            self.same = False
        index = torch.tensor(list(teacher_class), dtype=torch.int64)
        if len(index) != student_classes or not bool(
            ((index >= 0) & (index < teacher_classes)).all()
        ):
            raise ValueError(
                f"class_map={list(teacher_class)} must give one class from 0 to "
                f"{teacher_classes - 1} (of the teacher) for each of the student's "
                f"{student_classes} classes"
            )
        self.register_buffer("teacher_class", index, persistent=False)

    def logits(self, teacher_logits: Tensor) -> Tensor:
        """(..., K of the teacher) -> (..., K of the student)."""
        return teacher_logits if self.same else teacher_logits[..., self.teacher_class]

    def detections(self, teacher_detections: Instances) -> Instances:
        """A detection once for each of the student's classes that its class stands for."""
        if self.same:
            return teacher_detections
        hits = teacher_detections.pred_classes[:, None] == self.teacher_class
        detection, student_class = hits.nonzero(as_tuple=True)
        mapped = teacher_detections[detection]
        mapped.pred_classes = student_class
        return mapped
