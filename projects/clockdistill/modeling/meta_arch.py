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
from projects.clockdistill.modeling.detectors.normalisers import mean_over_ranks
from projects.clockdistill.modeling.detectors.predictions import Predictions
from projects.clockdistill.modeling.detectors.transfers import to_device
from projects.clockdistill.modeling.hooks import DetectorHooks
from projects.clockdistill.modeling.losses import FeatureLosses, LogitDistillLoss, MemoryDistillLoss
from projects.clockdistill.modeling.pair_checks import check_pair
from projects.clockdistill.modeling.pseudo_targets import PseudoTargets, by_labels
from projects.clockdistill.modeling.query_groups import QueryGroup, QueryGroups
from projects.clockdistill.modeling.token_weights import TokenWeights


@dataclass(frozen=True)
class TeacherPass:
    """What the student's pass over some images reads of the teacher's; nothing has a gradient.

    Attributes:
        images: detectron2's dicts, all with labels or all without.
        targets: per image "labels" (N,) int64 and "boxes" (N, 4) cxcywh in [0, 1].
        share: the number of these images, divided by its mean over all chunks and processes. 0
            where there is none of this kind: an image of the other kind takes its place, so that
            all processes do the same, and no loss counts it.
        features: per level (B, D, H, W), for feature losses; else empty.
        memory: (B, S, D) for the memory loss; else None.
        groups: the sampled groups, then the teacher's detector queries if they are distilled.
        predictions: for these groups, in the student's classes; None without a logit loss.
        logit_norms: what `LogitDistillLoss.norms` returns for the whole batch.
        is_counted: whether `share` is more than 0.
    """

    images: list[dict[str, Any]]
    targets: list[dict[str, Tensor]]
    share: Tensor | float
    features: Sequence[Tensor]
    memory: Tensor | None
    groups: tuple[QueryGroup, ...]
    predictions: Predictions | None
    logit_norms: Tensor | None = None
    is_counted: bool = True


class DistillMetaArch(nn.Module):
    """A frozen teacher trains a student: detection, memory, logit and feature losses.

    Source: CLoCKDistill (arXiv:2502.10683), eq. (11). The memory is the last encoder layer's,
    whatever the numbers of layers (sec. 4.5.2).

    Beyond the paper, images without labels (`pseudo_targets.UNLABELLED`) take part through the
    teacher alone. They pass through the student by themselves and have losses of their own, so
    those of the labelled images are what they would be without them.

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
        pseudo_targets: makes the targets of images without labels; None refuses such images.
        unlabelled_token_weights: for the memory loss of such images; by default `token_weights`.

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
        pseudo_targets: PseudoTargets | None = None,
        unlabelled_token_weights: TokenWeights | None = None,
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

        self.pseudo_targets = pseudo_targets
        self.unlabelled_token_weights = unlabelled_token_weights or token_weights

        # Teacher and, for images without labels, student run only as far as a loss reads them.
        last = "decoder" if logit_loss is not None else "encoder"
        last = last if memory_loss is not None or logit_loss is not None else "neck"
        specific = self.query_groups and self.query_groups.specific
        self.teacher_hooks = DetectorHooks(teacher, teacher_adapter, last, specific)
        self.student_hooks = DetectorHooks(student, student_adapter)
        self.unlabelled_hooks = DetectorHooks(student, student_adapter, last)

    def forward(
        self, batched_inputs: list[dict[str, Any]], teacher: Sequence[TeacherPass] | None = None
    ) -> Any:
        """Runs one distillation step, or evaluates the student.

        Args:
            batched_inputs: detectron2's list of dicts.
            teacher: what `run_teacher` returned for these inputs, where they are one of several
                chunks of a batch.

        Returns:
            Training: weighted losses, the student's own and "loss_distill_*", those of images
            without labels as "loss_distill_*_unlabelled". Evaluation: the student's detections.
        """
        if not self.training:
            return self.student(batched_inputs)
        if teacher is None:
            (teacher,) = self.run_teacher([batched_inputs])
        labelled, *unlabelled = teacher
        losses = self._distill(labelled, self.student_hooks, self.token_weights)
        for part in unlabelled:
            distilled = self._distill(part, self.unlabelled_hooks, self.unlabelled_token_weights)
            losses |= {f"{name}_unlabelled": loss for name, loss in distilled.items()}
        return losses

    def _distill(
        self, teacher: TeacherPass, student_hooks: DetectorHooks, token_weights: TokenWeights
    ) -> dict[str, Tensor]:
        """Returns the losses of the images of one pass."""
        groups = () if self.query_groups is None else self.query_groups.for_student(teacher.groups)
        student = student_hooks.run(teacher.images, groups, teacher.targets)

        losses = dict(student.output or {})  # the detection losses, sums over objects
        if not teacher.is_counted:
            losses = {name: 0 * loss for name, loss in losses.items()}
        if self.memory_loss is not None:
            weights = token_weights(teacher.targets, student.masks)
            memory_loss = self.memory_loss(student.memory, teacher.memory, weights)
            losses["loss_distill_memory"] = memory_loss * teacher.share
        if self.logit_loss is not None:
            losses |= self.logit_loss(
                student.predictions, teacher.predictions, groups, teacher.logit_norms, teacher.share
            )
        feature_losses = self.feature_losses(
            student.features, teacher.features, student.masks, teacher.targets
        )
        return losses | {name: loss * teacher.share for name, loss in feature_losses.items()}

    @torch.no_grad()
    def run_teacher(self, chunks: Sequence[list[dict[str, Any]]]) -> list[list[TeacherPass]]:
        """Runs the teacher on every chunk of a batch, before the student runs on the first.

        What the logit loss divides by is known only then, and the same for all chunks.

        Returns:
            For each chunk the pass of the labelled images and, where images say which have labels,
            that of the others.

        Raises:
            ValueError: if there are images without labels, but no `pseudo_targets`.
        """
        labelled, *unlabelled = zip(*map(by_labels, chunks), strict=True)
        kinds = [self._teacher_passes(labelled, *unlabelled)]
        if unlabelled:
            kinds.append(self._teacher_passes(*unlabelled, labelled, has_labels=False))
        return [list(of_chunk) for of_chunk in zip(*kinds, strict=True)]

    def _teacher_passes(
        self,
        chunks: Sequence[list[dict[str, Any]]],
        others: Sequence[list[dict[str, Any]]] | None = None,
        *,
        has_labels: bool = True,
    ) -> list[TeacherPass]:
        """Runs the teacher on the images of one kind.

        Args:
            chunks: the images of this kind in each chunk; some may be empty if there are `others`.
            others: the images of the other kind, where a batch has both.
            has_labels: whether this is the kind with labels.
        """
        shares = [1.0] * len(chunks)
        if others is not None:
            counts = torch.tensor([float(len(images)) for images in chunks])
            counts = to_device(counts, self.student.device)
            # of no image at all the shares are 0
            shares = counts / mean_over_ranks(counts.mean()).clamp(min=torch.finfo().tiny)
        passes = []
        for chunk, images in enumerate(chunks):
            one = images or others[chunk][:1]
            if not images:
                targets = [_no_objects(self.student.device)]
            elif has_labels:
                targets = self.student_hooks.adapter.targets(self.student, images)
            else:
                targets = self._pseudo_targets(images)
            sampled = () if self.query_groups is None else self.query_groups(targets)
            run = self.teacher_hooks.run(one, sampled)
            predictions = (
                None if self.logit_loss is None else self.class_map.predictions(run.predictions)
            )
            # of several chunks nothing is kept that no loss reads
            passes.append(
                TeacherPass(
                    one,
                    targets,
                    shares[chunk],
                    features=run.features if self.feature_losses.losses else (),
                    memory=None if self.memory_loss is None else run.memory,
                    groups=run.groups if images else _uncounted(run.groups),
                    predictions=predictions,
                    is_counted=bool(images),
                )
            )
        if self.logit_loss is None:
            return passes
        norms = self.logit_loss.norms(
            [one.predictions for one in passes], [one.groups for one in passes]
        )
        return [replace(one, logit_norms=norms) for one in passes]

    def _pseudo_targets(self, images: list[dict[str, Any]]) -> list[dict[str, Tensor]]:
        """Returns targets of images without labels, by one more pass of the teacher."""
        if self.pseudo_targets is None:
            raise ValueError(
                "there are images without labels, but model.pseudo_targets is null.\n"
                "Fix: set it as configs/models/distill.py does, or leave these images out"
            )
        return self.pseudo_targets(self.teacher_detections(images), self.student.device)

    def train(self, mode: bool = True) -> "DistillMetaArch":
        """Sets the mode of all but the teacher, which stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def teacher_detections(self, batched_inputs: list[dict[str, Any]]) -> list[Instances]:
        """Returns the teacher's detections in the student's classes, one entry per image."""
        results = self.teacher_hooks.adapter.detect(self.teacher, batched_inputs)
        return [self.class_map.detections(result["instances"]) for result in results]

    @functools.cached_property
    def distill_modules(self) -> nn.ModuleDict:
        """Returns what resuming needs besides the student: embeddings, draws, adaptation layers."""
        modules = {
            "query_groups": self.query_groups,
            "memory_loss": self.memory_loss,
            "feature_losses": self.feature_losses,
        }
        return nn.ModuleDict({key: module for key, module in modules.items() if module is not None})


def _no_objects(device: torch.device) -> dict[str, Tensor]:
    """Returns the targets of an image without objects."""
    return {
        "labels": torch.zeros(0, dtype=torch.int64, device=device),
        "boxes": torch.zeros(0, 4, device=device),
    }


def _uncounted(groups: Sequence[QueryGroup]) -> tuple[QueryGroup, ...]:
    """Returns the same groups, of which no loss counts a query."""
    return tuple(
        replace(group, valid=group.content.new_zeros(group.content.shape[:2], dtype=torch.bool))
        for group in groups
    )
