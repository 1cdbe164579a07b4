"""The meta-architecture: calls the rooms of `modeling/` in order."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from projects.clockdistill.modeling.adapters.base import FamilyAdapter
from projects.clockdistill.modeling.class_map import ClassMap
from projects.clockdistill.modeling.detectors.predictions import Predictions
from projects.clockdistill.modeling.losses import FeatureLosses, LogitDistillLoss, MemoryDistillLoss
from projects.clockdistill.modeling.losses.logits import LogitPair
from projects.clockdistill.modeling.pair_checks import check_pair
from projects.clockdistill.modeling.query_groups import QueryGroups
from projects.clockdistill.modeling.structures import QueryGroup, TappedForward
from projects.clockdistill.modeling.taps import DetectorTap
from projects.clockdistill.modeling.teacher_cache import TeacherCache
from projects.clockdistill.modeling.token_weights import TokenWeights


class DistillMetaArch(nn.Module):
    """A frozen teacher trains a student: detection, memory, logit and feature losses.

    Source: CLoCKDistill (arXiv:2502.10683), eq. (11). The memory is the last encoder layer's,
    whatever the numbers of layers (sec. 4.5.2).

    Args:
        student: a plain detector; all that a checkpoint's "model" holds.
        teacher: a plain detector; frozen, always in eval mode, never saved.
        student_adapter: knows the student's family.
        teacher_adapter: knows the teacher's family.
        query_groups: which queries both decode.
        token_weights: eq. (2)-(5)'s weights of memory tokens.
        memory_loss: eq. (5); None = no memory distillation.
        logit_loss: eq. (9)-(10); None = no logit distillation.
        feature_losses: other methods' losses on the neck's features; CLoCKDistill has none.
        teacher_checkpoint: where the trainer loads the teacher's weights from.
        teacher_cache_gib: memory for what the teacher computes in front of its decoder, so that
            images which come again are not encoded again; 0 = nothing is kept. For data whose
            augmentation repeats itself, see `TeacherCache`.
        stages: which decoder stage of the teacher a student's stage learns from. "same": its own
            where both have as many stages, otherwise only the last from the last (sec. 4.5.2).
            "teacher_last": every stage from the teacher's last, as in KD-DETR's public code.
        class_map: for each of the student's classes the teacher's; needed where they differ.

    Raises:
        ValueError: if teacher and student differ in what must agree, see `check_pair`.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        student_adapter: FamilyAdapter,
        teacher_adapter: FamilyAdapter,
        query_groups: QueryGroups,
        token_weights: TokenWeights,
        memory_loss: MemoryDistillLoss | None,
        logit_loss: LogitDistillLoss | None,
        feature_losses: FeatureLosses,
        teacher_checkpoint: str = "",
        teacher_cache_gib: float = 0.0,
        stages: Literal["same", "teacher_last"] = "same",
        class_map: Sequence[int] | None = None,
    ):
        super().__init__()
        if stages not in ("same", "teacher_last"):
            raise ValueError(f"stages={stages!r} must be 'same' or 'teacher_last'")
        self.class_map = ClassMap(student.num_classes, teacher.num_classes, class_map)
        check_pair(
            student,
            teacher,
            student_adapter,
            teacher_adapter,
            features=memory_loss is not None or bool(feature_losses),
            query_groups=query_groups if logit_loss is not None else None,
        )
        self.student = student
        self.teacher = teacher.requires_grad_(False).eval()
        self.student_tap = DetectorTap(student_adapter)
        self.teacher_tap = DetectorTap(teacher_adapter)
        # Without logit distillation nothing of them may wait for a gradient.
        self.query_groups = QueryGroups(0, 0) if logit_loss is None else query_groups
        self.token_weights = token_weights
        self.memory_loss = memory_loss
        self.logit_loss = logit_loss
        self.feature_losses = feature_losses
        self.teacher_checkpoint = teacher_checkpoint
        self.teacher_cache = TeacherCache(int(teacher_cache_gib * 2**30))
        self.stages = stages

    @property
    def distill_modules(self) -> nn.ModuleDict:
        """What resuming needs beside the student: frozen embeddings, draws, adaptation layers."""
        modules = {
            "query_groups": self.query_groups,
            "memory_loss": self.memory_loss,
            "feature_losses": self.feature_losses,
        }
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
        targets = self.student_tap.adapter.targets(self.student, batched_inputs)
        groups = self.query_groups(targets)
        teacher, groups, answers = self._ask_teacher(batched_inputs, groups)
        student = self.student_tap.run(
            self.student, batched_inputs, self.query_groups.for_student(groups)
        )
        losses = dict(student.output)
        if self.memory_loss is not None:
            losses["loss_distill_memory"] = self._memory_loss(student, teacher, targets)
        if self.logit_loss is not None:
            losses |= self._logit_loss(groups, student.groups, answers)
        return losses | self._feature_losses(student, teacher, targets)

    def teacher_detections(self, batched_inputs: list[dict[str, Any]]) -> list[Instances]:
        """The teacher's detections in the student's classes, one entry per image."""
        return [
            self.class_map.detections(result["instances"])
            for result in self.teacher(batched_inputs)
        ]

    @torch.no_grad()
    def _ask_teacher(
        self, batched_inputs: list[dict[str, Any]], groups: tuple[QueryGroup, ...]
    ) -> tuple[TappedForward, tuple[QueryGroup, ...], tuple[Predictions, ...]]:
        """What the teacher sees, all groups that the student receives, and its answers to them.

        Its own queries are decoded only where they become a group of the student's.
        """
        specific = self.query_groups.specific
        wanted = {
            "own_queries": specific is not None,
            "memory": self.memory_loss is not None,
        }
        memory = any(wanted.values()) or bool(groups)
        encode = partial(self.teacher_tap.encode, self.teacher, memory=memory)
        encoded = self.teacher_cache.encoded(batched_inputs, encode)
        teacher = self.teacher_tap.read(
            self.teacher, batched_inputs, groups, **wanted, encoded=encoded
        )
        if specific is None:
            return teacher, groups, teacher.groups
        group = specific(teacher.own_queries)
        own = teacher.own.queries(slice(0, len(group)))
        return teacher, (*groups, group), (*teacher.groups, own)

    def _memory_loss(
        self, student: TappedForward, teacher: TappedForward, targets: list[dict[str, Tensor]]
    ) -> Tensor:
        levels = student.levels
        token_weights = self.token_weights(
            targets, levels.shapes, levels.valid_ratios, levels.padding_mask
        )
        return self.memory_loss(student.memory, teacher.memory, token_weights)

    def _feature_losses(
        self, student: TappedForward, teacher: TappedForward, targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        levels = student.levels
        losses = self.feature_losses(
            levels.features, teacher.levels.features, levels.masks, targets
        )
        return {f"loss_distill_{name}": loss for name, loss in losses.items()}

    def _logit_loss(
        self,
        groups: tuple[QueryGroup, ...],
        student: tuple[Predictions, ...],
        teacher: tuple[Predictions, ...],
    ) -> dict[str, Tensor]:
        pairs = []
        for group, learnt, answer in zip(groups, student, teacher, strict=True):
            learnt, taught = self._paired_stages(learnt, answer)
            pairs.append(
                LogitPair(
                    learnt.logits,
                    learnt.boxes,
                    self.class_map.logits(taught.logits),
                    taught.boxes,
                    group.valid,
                    group.copies,
                )
            )
        return {f"loss_distill_{key}": loss for key, loss in self.logit_loss(pairs).items()}

    def _paired_stages(
        self, learnt: Predictions, taught: Predictions
    ) -> tuple[Predictions, Predictions]:
        """As many stages of both: which of the teacher's each of the student's learns from."""
        if self.stages == "teacher_last":
            stages = len(learnt.logits)
            return learnt, taught.stages(slice(-1, None)).repeated(stages)
        if len(learnt.logits) == len(taught.logits):
            return learnt, taught
        last = slice(-1, None)
        return learnt.stages(last), taught.stages(last)
