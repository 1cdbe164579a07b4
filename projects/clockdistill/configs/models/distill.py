"""Trees of `DistillMetaArch`: a teacher, a student, and what is distilled between them."""

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from projects.clockdistill.modeling.adapters import DINOAdapter
from projects.clockdistill.modeling.losses import LogitDistillLoss, MemoryDistillLoss
from projects.clockdistill.modeling.meta_arch import DistillMetaArch
from projects.clockdistill.modeling.query_groups import (
    GeneralQueries,
    QueryGroups,
    SpecificQueries,
    TargetAwareQueries,
)
from projects.clockdistill.modeling.token_weights import TokenWeights

from .dino import dino, mini_dino


def distill(student: DictConfig, teacher: DictConfig, num_points: int) -> DictConfig:
    """CLoCKDistill between two DINO trees, with the paper's coefficients (sec. 4.2).

    `model.student.num_classes` is the one place where the number of classes is set.

    Args:
        student: a detector's tree.
        teacher: a detector's tree, of another import or call than the student's.
        num_points: queries of each sampled kind (paper: 900 for DINO).

    Returns:
        The tree; switch a part off with `model.memory_loss=null`, `model.logit_loss=null`,
        `model.query_groups.{target_aware,general,specific}=null`.
    """
    teacher.num_classes = "${..student.num_classes}"
    return L(DistillMetaArch)(
        student=student,
        teacher=teacher,
        teacher_checkpoint="",
        student_adapter=L(DINOAdapter)(),
        teacher_adapter=L(DINOAdapter)(),
        query_groups=L(QueryGroups)(
            target_aware=L(TargetAwareQueries)(
                num_classes="${...student.num_classes}",
                embed_dim="${...student.embed_dim}",
                copies=3,
                box_jitter=0.0,
            ),
            general=L(GeneralQueries)(num_points=num_points, embed_dim="${...student.embed_dim}"),
            specific=L(SpecificQueries)(num_points=num_points),
        ),
        token_weights=L(TokenWeights)(alpha=5e-5, beta=1e-7),
        memory_loss=L(MemoryDistillLoss)(
            student_dim="${..student.embed_dim}", teacher_dim="${..teacher.embed_dim}"
        ),
        logit_loss=L(LogitDistillLoss)(
            cls_weight=1.0,
            l1_weight=5.0,
            giou_weight=2.0,
            temperature=10.0,
            kl_reduction="sum",
            confidence="sigmoid",
        ),
    )


def mini_teacher() -> DictConfig:
    """The small teacher: the student with a wider backbone."""
    return mini_dino(stem_channels=24, channels=(24, 48, 96, 120))


dino_r50_to_r18 = distill(student=dino(depth=18), teacher=dino(depth=50), num_points=900)
mini_dino_r50_to_r18 = distill(student=mini_dino(), teacher=mini_teacher(), num_points=60)
