"""Trees of `DistillMetaArch`: a teacher, a student, and what is distilled between them."""

from collections.abc import Sequence
from typing import NamedTuple

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from projects.clockdistill.modeling.adapters import (
    DABDETRAdapter,
    DeformableDETRAdapter,
    DetrexDABDETRAdapter,
    DetrexDeformableDETRAdapter,
    DetrexDINOAdapter,
    DINOAdapter,
)
from projects.clockdistill.modeling.losses import FeatureLosses, LogitDistillLoss, MemoryDistillLoss
from projects.clockdistill.modeling.meta_arch import DistillMetaArch
from projects.clockdistill.modeling.query_groups import (
    GeneralQueries,
    QueryGroups,
    SpecificQueries,
    TargetAwareQueries,
)
from projects.clockdistill.modeling.token_weights import TokenWeights

from .detrex import is_detrex, tied


class Family(NamedTuple):
    """What distillation sets for each kind of detector."""

    adapter: type
    num_points: int  # queries of each sampled kind (CLoCKDistill, sec. 4.2)
    position_queries: bool = False  # its decoder does not make them from anchors


OURS = {
    "DINO": Family(DINOAdapter, 900),
    "DABDETR": Family(DABDETRAdapter, 300),
    "DeformableDETR": Family(DeformableDETRAdapter, 300, position_queries=True),
}
DETREX = {
    "DINO": Family(DetrexDINOAdapter, 900),
    "DABDETR": Family(DetrexDABDETRAdapter, 300),
    "DeformableDETR": Family(DetrexDeformableDETRAdapter, 300, position_queries=True),
}


def distill(
    student: DictConfig,
    teacher: DictConfig,
    teacher_checkpoint: str = "",
    num_points: int | None = None,
    class_map: Sequence[int] | None = None,
) -> DictConfig:
    """CLoCKDistill between two detectors' trees, with the paper's coefficients (sec. 4.2).

    `model.student.num_classes` is the one place where the number of classes is set, unless the
    teacher has classes of its own and a map.

    Args:
        student: a detector's tree, ours or real detrex's own.
        teacher: a detector's tree, ours of another import or call than the student's.
        teacher_checkpoint: path or address of the teacher's weights.
        num_points: queries of each sampled kind; by default the paper's for the student's family.
        class_map: for each of the student's classes the teacher's index.

    Returns:
        The tree; switch a part off with `model.memory_loss=null`, `model.logit_loss=null`,
        `model.query_groups.{target_aware,general,specific}=null`.

    Raises:
        ValueError: if a tree is of no known family.
    """
    learns, teaches = family(student, "student"), family(teacher, "teacher")
    student, teacher = (tied(tree) if is_detrex(tree) else tree for tree in (student, teacher))
    num_points = learns.num_points if num_points is None else num_points
    if class_map is None:
        teacher.num_classes = "${..student.num_classes}"
    return L(DistillMetaArch)(
        student=student,
        teacher=teacher,
        teacher_checkpoint=teacher_checkpoint,
        teacher_cache_gib=0,
        student_adapter=L(learns.adapter)(),
        teacher_adapter=L(teaches.adapter)(),
        query_groups=L(QueryGroups)(
            teacher_dim="${..teacher.embed_dim}",
            student_dim="${..student.embed_dim}",
            target_aware=L(TargetAwareQueries)(
                num_classes="${...student.num_classes}",
                embed_dim="${..teacher_dim}",
                copies=3,
                box_jitter=0.0,
            ),
            general=L(GeneralQueries)(
                num_points=num_points,
                embed_dim="${..teacher_dim}",
                position_queries=learns.position_queries or teaches.position_queries,
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
            temperature=10.0,
            kl_reduction="sum",
            confidence="sigmoid",
        ),
        feature_losses=L(FeatureLosses)(fitnet=None, fgd=None, mgd=None),
        stages="same",
        class_map=class_map,
    )


def family(detector: DictConfig, role: str) -> Family:
    """What distillation must know of a detector, by the class that its tree names."""
    target = detector["_target_"]
    name = (target if isinstance(target, str) else target.__name__).rpartition(".")[2]
    families = DETREX if is_detrex(detector) else OURS
    if name not in families:
        raise ValueError(
            f"model.{role} is a {name}; distillation knows {', '.join(families)}, this project's "
            "and detrex's"
        )
    return families[name]
