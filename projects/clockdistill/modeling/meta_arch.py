"""The meta-architecture: one distillation step, from images to losses."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from projects.clockdistill.modeling.adapters.base import FamilyAdapter
from projects.clockdistill.modeling.class_map import ClassMap
from projects.clockdistill.modeling.detectors.predictions import Predictions
from projects.clockdistill.modeling.hooks import DetectorHooks
from projects.clockdistill.modeling.losses import FeatureLosses, LogitDistillLoss, MemoryDistillLoss
from projects.clockdistill.modeling.pair_checks import check_pair
from projects.clockdistill.modeling.query_groups import QueryGroup, QueryGroups
from projects.clockdistill.modeling.token_weights import TokenWeights


@dataclass(frozen=True)
class TeacherPass:
    """What the student's pass over some images reads of the teacher's; nothing has a gradient.

    Attributes:
        targets: per image "labels" (N,) int64 and "boxes" (N, 4) cxcywh in [0, 1].
        features: per level (B, D, H, W), for feature losses; else empty.
        memory: (B, S, D) for the memory loss; else None.
        groups: the sampled groups, then the teacher's detector queries if they are distilled.
        predictions: for these groups, in the student's classes; None without a logit loss.
        logit_norms: what `LogitDistillLoss.norms` returns for the whole batch.
    """

    targets: list[dict[str, Tensor]]
    features: Sequence[Tensor]
    memory: Tensor | None
    groups: tuple[QueryGroup, ...]
    predictions: Predictions | None
    logit_norms: Tensor | None = None


class DistillMetaArch(nn.Module):
    """A frozen teacher trains a student: detection, memory, logit and feature losses.

    Source: CLoCKDistill (arXiv:2502.10683), eq. (11). The memory is the last encoder layer's,
    whatever the numbers of layers (sec. 4.5.2).

    Args:
        student: a plain detector; all that a checkpoint's "model" holds.
        teacher: a plain detector; frozen, always in eval mode, never saved.
        student_adapter: knows the student's family.
        teacher_adapter: knows the teacher's family.
        query_groups: the queries that both decode.
        token_weights: eq. (2)-(5)'s weights of memory tokens.
        memory_loss: eq. (5); None = no memory distillation.
        logit_loss: eq. (9)-(10); None = no logit distillation.
        feature_losses: other methods' losses on the neck's features; CLoCKDistill has none.
        teacher_checkpoint: where the trainer loads the teacher's weights from.
        class_map: for each of the student's classes the teacher's; needed where they differ.

    Raises:
        ValueError: if teacher and student differ in what must agree, as `check_pair` says.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        student_adapter: FamilyAdapter,
        teacher_adapter: FamilyAdapter,
        query_groups: QueryGroups | None,
        token_weights: TokenWeights,
        memory_loss: MemoryDistillLoss | None,
        logit_loss: LogitDistillLoss | None,
        feature_losses: FeatureLosses,
        teacher_checkpoint: str = "",
        class_map: Sequence[int] | None = None,
    ):
        super().__init__()
        self.class_map = ClassMap(student.num_classes, teacher.num_classes, class_map)
        check_pair(
            student,
            teacher,
            student_adapter,
            teacher_adapter,
            features=memory_loss is not None or len(feature_losses.losses) > 0,
            logits=logit_loss is not None,
            query_groups=query_groups,
        )
        self.student = student
        self.teacher = teacher.requires_grad_(False).eval()
        # Without a logit loss its layers would have no gradient, which DDP does not accept.
        self.query_groups = query_groups if logit_loss is not None else None
        self.token_weights = token_weights
        self.memory_loss = memory_loss
        self.logit_loss = logit_loss
        self.feature_losses = feature_losses
        self.teacher_checkpoint = teacher_checkpoint

        self.student_hooks = DetectorHooks(student, student_adapter)
        # The teacher runs only as far as a loss reads it.
        if logit_loss is not None:
            self.teacher_hooks = DetectorHooks(
                teacher, teacher_adapter, "decoder", query_groups.specific
            )
        else:
            last = "neck" if memory_loss is None else "encoder"
            self.teacher_hooks = DetectorHooks(teacher, teacher_adapter, last)

    def forward(
        self, batched_inputs: list[dict[str, Any]], teacher: TeacherPass | None = None
    ) -> Any:
        """Runs one distillation step, or evaluates the student.

        Args:
            batched_inputs: detectron2's list of dicts.
            teacher: what `run_teacher` returned for these inputs, where they are one of several
                chunks of a batch.

        Returns:
            Training: weighted losses, the student's own and "loss_distill_*". Evaluation: the
            student's detections.
        """
        if not self.training:
            return self.student(batched_inputs)
        if teacher is None:
            (teacher,) = self.run_teacher([batched_inputs])
        groups = () if self.query_groups is None else self.query_groups.for_student(teacher.groups)
        student = self.student_hooks.run(batched_inputs, groups, teacher.targets)

        losses = dict(student.output)
        if self.memory_loss is not None:
            token_weights = self.token_weights(teacher.targets, student.masks)
            losses["loss_distill_memory"] = self.memory_loss(
                student.memory, teacher.memory, token_weights
            )
        if self.logit_loss is not None:
            losses |= self.logit_loss(
                student.predictions, teacher.predictions, groups, teacher.logit_norms
            )
        losses |= self.feature_losses(
            student.features, teacher.features, student.masks, teacher.targets
        )
        return losses

    @torch.no_grad()
    def run_teacher(self, chunks: Sequence[list[dict[str, Any]]]) -> list[TeacherPass]:
        """Runs the teacher on every chunk of a batch, before the student runs on the first.

        What the logit loss divides by is known only then, and the same for all chunks.
        """
        passes = []
        for batched_inputs in chunks:
            targets = self.student_hooks.adapter.targets(self.student, batched_inputs)
            sampled = () if self.query_groups is None else self.query_groups(targets)
            run = self.teacher_hooks.run(batched_inputs, sampled)
            predictions = (
                None if self.logit_loss is None else self.class_map.predictions(run.predictions)
            )
            # of several chunks nothing is kept that no loss reads
            features = run.features if self.feature_losses.losses else ()
            memory = None if self.memory_loss is None else run.memory
            passes.append(TeacherPass(targets, features, memory, run.groups, predictions))
        if self.logit_loss is None:
            return passes
        norms = self.logit_loss.norms(
            [one.predictions for one in passes], [one.groups for one in passes]
        )
        return [replace(one, logit_norms=norms) for one in passes]

    def train(self, mode: bool = True) -> "DistillMetaArch":
        """Sets the mode of all but the teacher, which stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def teacher_detections(self, batched_inputs: list[dict[str, Any]]) -> list[Instances]:
        """Returns the teacher's detections in the student's classes, one entry per image."""
        return [
            self.class_map.detections(result["instances"])
            for result in self.teacher(batched_inputs)
        ]

    @functools.cached_property
    def distill_modules(self) -> nn.ModuleDict:
        """Returns what resuming needs besides the student: embeddings, draws, adaptation layers."""
        modules = {
            "query_groups": self.query_groups,
            "memory_loss": self.memory_loss,
            "feature_losses": self.feature_losses,
        }
        return nn.ModuleDict({key: module for key, module in modules.items() if module is not None})
