"""The teacher's classes seen as the student's."""

from collections.abc import Sequence

import torch
from detectron2.structures import Instances
from torch import nn

from projects.clockdistill.modeling.detectors.predictions import Predictions


class ClassMap(nn.Module):
    """Maps the teacher's predictions and detections to the student's classes.

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
                    f"{teacher_classes}. Fix: give both the same classes, or set model.class_map "
                    "to the teacher's class for each of the student's"
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

    def predictions(self, teacher: Predictions) -> Predictions:
        """Returns the logits (..., K of the student) with the teacher's boxes."""
        if self.same:
            return teacher
        return Predictions(teacher.logits[..., self.teacher_class], teacher.boxes)

    def detections(self, teacher_detections: Instances) -> Instances:
        """Returns a detection once for each of the student's classes that its class stands for."""
        if self.same:
            return teacher_detections
        classes = teacher_detections.pred_classes
        hits = classes[:, None] == self.teacher_class.to(classes.device)
        detection, student_class = hits.nonzero(as_tuple=True)
        mapped = teacher_detections[detection]
        mapped.pred_classes = student_class
        return mapped
