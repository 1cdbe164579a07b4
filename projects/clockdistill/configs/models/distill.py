"""Configs of `DistillMetaArch`: a teacher, a student, and what is distilled between them."""

import copy
from collections.abc import Sequence

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from projects.clockdistill.modeling.adapters.base import FamilyAdapter
from projects.clockdistill.modeling.losses import FeatureLosses, LogitDistillLoss, MemoryDistillLoss
from projects.clockdistill.modeling.meta_arch import DistillMetaArch
from projects.clockdistill.modeling.pseudo_targets import PseudoTargets
from projects.clockdistill.modeling.query_groups import (
    GeneralQueries,
    QueryGroups,
    SpecificQueries,
    TargetAwareQueries,
)
from projects.clockdistill.modeling.token_weights import TokenWeights


def distill(
    student: DictConfig,
    teacher: DictConfig,
    adapter: type[FamilyAdapter],
    teacher_adapter: type[FamilyAdapter] | None = None,
    teacher_checkpoint: str = "",
    num_points: int | None = None,
    class_map: Sequence[int] | None = None,
) -> DictConfig:
    """Returns CLoCKDistill between two detectors, with the paper's coefficients (sec. 4.2).

    `model.student.num_classes` is the one place where the number of classes is set, unless the
    teacher has classes of its own and a map.

    Args:
        student: a detector's config.
        teacher: a detector's config; copied, so it may be the student's.
        adapter: the student's family, one of `modeling.adapters`.
        teacher_adapter: the teacher's family; by default the student's.
        teacher_checkpoint: path or address of the teacher's weights.
        num_points: queries of each sampled kind; by default the paper's for the student's family.
        class_map: for each of the student's classes the teacher's index.

    Returns:
        The config; switch a part off with `model.memory_loss=null`, `model.logit_loss=null`,
        `model.query_groups.{target_aware,general,specific}=null`.
    """
    teacher = copy.deepcopy(teacher)
    teacher_adapter = teacher_adapter or adapter
    num_points = adapter.num_points if num_points is None else num_points
    if class_map is None:
        teacher.num_classes = "${..student.num_classes}"
    return L(DistillMetaArch)(
        student=student,
        teacher=teacher,
        teacher_checkpoint=teacher_checkpoint,
        student_adapter=L(adapter)(),
        teacher_adapter=L(teacher_adapter)(),
        query_groups=L(QueryGroups)(
            teacher_dim="${..teacher.embed_dim}",
            student_dim="${..student.embed_dim}",
            target_aware=L(TargetAwareQueries)(
                num_classes="${...student.num_classes}", embed_dim="${..teacher_dim}", copies=3
            ),
            general=L(GeneralQueries)(
                num_points=num_points,
                embed_dim="${..teacher_dim}",
                position_queries=adapter.position_queries or teacher_adapter.position_queries,
            ),
            specific=L(SpecificQueries)(num_points=num_points),
        ),
        token_weights=L(TokenWeights)(alpha=5e-5, beta=1e-7, masks="location_scale"),
        memory_loss=L(MemoryDistillLoss)(
            student_dim="${..student.embed_dim}", teacher_dim="${..teacher.embed_dim}"
        ),
        logit_loss=L(LogitDistillLoss)(
            cls_weight=1.0,
            l1_weight=5.0,
            giou_weight=2.0,
            temperature=1.0,
            kl_reduction="sum",
            confidence="sigmoid",
            kl="softmax",
            layers="same",
            normalised="none",
            l1_reduction="sum",
        ),
        feature_losses=L(FeatureLosses)(),
        class_map=class_map,
        pseudo_targets=L(PseudoTargets)(threshold=0.5),
    )
