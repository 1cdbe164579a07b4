"""Refuses pairs of teacher and student that cannot be distilled, before any work is done."""

from torch import nn

from projects.clockdistill.modeling.adapters.base import FamilyAdapter
from projects.clockdistill.modeling.query_groups import QueryGroups


def check_pair(
    student: nn.Module,
    teacher: nn.Module,
    student_adapter: FamilyAdapter,
    teacher_adapter: FamilyAdapter,
    *,
    features: bool,
    logits: bool,
    query_groups: QueryGroups | None,
) -> None:
    """Checks what must agree between a teacher and a student.

    Args:
        student: a plain detector.
        teacher: a plain detector.
        student_adapter: knows the student's family.
        teacher_adapter: knows the teacher's family.
        features: whether the memory or the neck's features are distilled.
        logits: whether predictions are distilled.
        query_groups: the queries that both decode then.

    Raises:
        ValueError: naming what disagrees and the fix.
    """
    levels = student_adapter.num_levels(student), teacher_adapter.num_levels(teacher)
    if features and levels[0] != levels[1]:
        raise ValueError(
            f"the student has {levels[0]} feature levels, the teacher {levels[1]}: memory and "
            "feature distillation need the same. Fix: set model.memory_loss=null (and every "
            "model.feature_losses.*=null) to distil logits alone"
        )
    if not logits:
        return
    if query_groups is None or not query_groups.kinds:
        raise ValueError(
            "logit distillation needs at least one of model.query_groups.target_aware, general and "
            "specific. Fix: set model.logit_loss=null to distil the memory alone"
        )
    dims = student_adapter.embed_dim(student), teacher_adapter.embed_dim(teacher)
    given = query_groups.student_dim, query_groups.teacher_dim
    if dims != given:
        raise ValueError(
            f"student and teacher are {dims[0]} and {dims[1]} channels wide, but "
            f"model.query_groups has student_dim={given[0]} and teacher_dim={given[1]}. Fix: tie "
            "them to model.student.embed_dim and model.teacher.embed_dim"
        )
    if (
        query_groups.specific is not None
        and student_adapter.has_sizes(student)
        and not teacher_adapter.has_sizes(teacher)
    ):
        raise ValueError(
            "the teacher's detector queries are centres without sizes, which the student's decoder "
            "cannot start from. Fix: set model.query_groups.specific=null"
        )
