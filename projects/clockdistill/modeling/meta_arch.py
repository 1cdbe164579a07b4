"""The meta-architecture: calls the rooms of `modeling/` in order."""

from typing import Any

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.predictions import Predictions
from projects.clockdistill.modeling.losses import LogitDistillLoss, MemoryDistillLoss
from projects.clockdistill.modeling.losses.logits import LogitPair
from projects.clockdistill.modeling.query_groups import QueryGroups
from projects.clockdistill.modeling.structures import (
    QueryGroup,
    TappedForward,
)
from projects.clockdistill.modeling.taps import Adapter, DetectorTap
from projects.clockdistill.modeling.token_weights import TokenWeights


class DistillMetaArch(nn.Module):
    """A frozen teacher trains a student: detection, memory and logit losses.

    Source: CLoCKDistill (arXiv:2502.10683), eq. (11). Where teacher and student have as many
    decoder stages as each other, stage e learns from stage e; otherwise the last from the last
    (sec. 4.5.2).

    Args:
        student: a plain detector; all that a checkpoint's "model" holds.
        teacher: a plain detector; frozen, always in eval mode, never saved.
        student_adapter: knows the student's family.
        teacher_adapter: knows the teacher's family.
        query_groups: which queries both decode.
        token_weights: eq. (2)-(5)'s weights of memory tokens.
        memory_loss: eq. (5); None = no memory distillation.
        logit_loss: eq. (9)-(10); None = no logit distillation.
        teacher_checkpoint: where the trainer loads the teacher's weights from.

    Raises:
        ValueError: if teacher and student differ in what must agree.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        student_adapter: Adapter,
        teacher_adapter: Adapter,
        query_groups: QueryGroups,
        token_weights: TokenWeights,
        memory_loss: MemoryDistillLoss | None,
        logit_loss: LogitDistillLoss | None,
        teacher_checkpoint: str = "",
    ):
        super().__init__()
        if student.num_classes != teacher.num_classes:
            raise ValueError(
                f"student.num_classes={student.num_classes} but "
                f"teacher.num_classes={teacher.num_classes}: both must know the same classes"
            )
        if logit_loss is not None and student.embed_dim != teacher.embed_dim:
            raise ValueError(
                f"student.embed_dim={student.embed_dim} but teacher.embed_dim="
                f"{teacher.embed_dim}: queries cannot be shared between decoders of different "
                "widths; set logit_loss=null or make the widths equal"
            )
        self.student = student
        self.teacher = teacher.requires_grad_(False).eval()
        self.student_tap = DetectorTap(student_adapter)
        self.teacher_tap = DetectorTap(teacher_adapter)
        self.query_groups = query_groups
        self.token_weights = token_weights
        self.memory_loss = memory_loss
        self.logit_loss = logit_loss
        self.teacher_checkpoint = teacher_checkpoint

    @property
    def distill_modules(self) -> nn.ModuleDict:
        """What resuming needs beside the student: frozen embeddings, draws, adaptation layers."""
        modules = {"query_groups": self.query_groups, "memory_loss": self.memory_loss}
        return nn.ModuleDict({key: module for key, module in modules.items() if module is not None})

    def train(self, mode: bool = True) -> "DistillMetaArch":
        """Sets the mode of all but the teacher, which stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """
        Args:
            batched_inputs: detectron2's list of dicts.

        Returns:
            Training: weighted losses, the student's own and "loss_distill_*". Evaluation: the
            student's detections.
        """
        if not self.training:
            return self.student(batched_inputs)
        targets = self.student.prepare_targets(batched_inputs)
        groups = self.query_groups(targets) if self.logit_loss is not None else ()
        teacher, groups, answers = self._ask_teacher(batched_inputs, groups)
        student = self.student_tap.run(self.student, batched_inputs, groups)
        losses = dict(student.output)
        if self.memory_loss is not None:
            losses["loss_distill_memory"] = self._memory_loss(student, teacher, targets)
        if self.logit_loss is not None:
            losses |= self._logit_loss(groups, student.groups, answers)
        return losses

    @torch.no_grad()
    def _ask_teacher(
        self, batched_inputs: list[dict[str, Any]], groups: tuple[QueryGroup, ...]
    ) -> tuple[TappedForward, tuple[QueryGroup, ...], tuple[Predictions, ...]]:
        """The teacher's memory, all groups that the student receives, and its answers to them.

        Its own queries are decoded only where they become a group of the student's.
        """
        specific = self.query_groups.specific if self.logit_loss is not None else None
        teacher = self.teacher_tap.read(
            self.teacher, batched_inputs, groups, own_queries=specific is not None
        )
        if specific is None:
            return teacher, groups, teacher.groups
        group = specific(teacher.own_queries)
        own = teacher.own.queries(slice(0, len(group)))
        return teacher, (*groups, group), (*teacher.groups, own)

    def _memory_loss(
        self, student: TappedForward, teacher: TappedForward, targets: list[dict[str, Tensor]]
    ) -> Tensor:
        encoder = student.encoder
        token_weights = self.token_weights(
            targets, encoder.spatial_shapes, encoder.valid_ratios, encoder.padding_mask
        )
        return self.memory_loss(encoder.memory, teacher.encoder.memory, token_weights)

    def _logit_loss(
        self,
        groups: tuple[QueryGroup, ...],
        student: tuple[Predictions, ...],
        teacher: tuple[Predictions, ...],
    ) -> dict[str, Tensor]:
        pairs = []
        for group, learnt, taught in zip(groups, student, teacher, strict=True):
            last_only = len(learnt.logits) != len(taught.logits)
            stages = slice(-1, None) if last_only else slice(None)
            pairs.append(
                LogitPair(
                    learnt.logits[stages],
                    learnt.boxes[stages],
                    taught.logits[stages],
                    taught.boxes[stages],
                    group.valid,
                    group.copies,
                )
            )
        return {f"loss_distill_{key}": loss for key, loss in self.logit_loss(pairs).items()}
