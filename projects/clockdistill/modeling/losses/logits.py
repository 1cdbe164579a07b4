"""Logit distillation. Shapes: E stages, B images, Q queries, K classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_convert, generalized_box_iou_loss


@dataclass(frozen=True)
class LogitPair:
    """What student and teacher made of the same queries.

    Attributes:
        student_logits, teacher_logits: (E, B, Q, K) before sigmoid.
        student_boxes, teacher_boxes: (E, B, Q, 4) cxcywh in [0, 1].
        valid: (B, Q) bool, False = filler that counts nowhere; None = all valid.
        copies: how often the group counts.
    """

    student_logits: Tensor
    student_boxes: Tensor
    teacher_logits: Tensor
    teacher_boxes: Tensor
    valid: Tensor | None = None
    copies: int = 1

    @property
    def predictions(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The student's logits and boxes, then the teacher's."""
        return self.student_logits, self.student_boxes, self.teacher_logits, self.teacher_boxes


class LogitDistillLoss(nn.Module):
    """KL, L1 and GIoU between the predictions for shared queries, weighted by the teacher.

    Source: CLoCKDistill (arXiv:2502.10683), eq. (9) and (10):
    sum over stages and queries of w * (cls * KL + l1 * L1 + giou * GIoU). What the paper leaves
    open is an option here:

    - Normalisation. The literal sum grows with the batch and with the number of queries. Here
      each group's sum is divided by its sum of w, stage by stage, and the groups are added (a
      group that stands for n copies n times): the loss is then of the size of the detector's own
      per-stage losses, and a handful of ground-truth queries is not lost among 900 sampled ones.
      KD-DETR's public code divides its box terms in this way.
    - `temperature` 10 and the factor T^2, as in KD-DETR's public code; the factor keeps the
      gradient's size when T changes.
    - `kl_reduction`: "sum" over classes is the divergence that eq. (9) names; "mean" over classes
      is what KD-DETR's public code computes, K times smaller.
    - `confidence`: eq. (10) with the "softmax" that eq. (9) defines, or with the "sigmoid" of
      KD-DETR's public code. Default "sigmoid": the detectors here are trained with a sigmoid
      focal loss, so a background query has low logits in every class, which a softmax cannot
      tell from an object (it is blind to a shift of all logits).
    - `kl`: the divergence of eq. (9), between "softmax" distributions over the classes; or, beyond
      the paper and for the same reason, "sigmoid": the divergence between Bernoulli
      distributions, class by class, so that the teacher's "none of them" is learnt too. At
      T = 10 it is close to an eighth of the squared difference of the logits.

    L1 is summed over the four coordinates, as in the detectors' own loss that shares its weight.

    Args:
        cls_weight: lambda_cls (paper: 1).
        l1_weight: lambda_L1 (paper: 5).
        giou_weight: lambda_GIoU (paper: 2).
        temperature: T of eq. (9).
        kl_reduction: how classes are reduced.
        confidence: sigma of eq. (10).
        kl: which distributions are compared.
    """

    def __init__(
        self,
        cls_weight: float = 1.0,
        l1_weight: float = 5.0,
        giou_weight: float = 2.0,
        temperature: float = 10.0,
        kl_reduction: Literal["sum", "mean"] = "sum",
        confidence: Literal["softmax", "sigmoid"] = "sigmoid",
        kl: Literal["softmax", "sigmoid"] = "softmax",
    ):
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature={temperature} must be positive")
        if kl_reduction not in ("sum", "mean"):
            raise ValueError(f"kl_reduction={kl_reduction!r} must be 'sum' or 'mean'")
        if confidence not in ("softmax", "sigmoid"):
            raise ValueError(f"confidence={confidence!r} must be 'softmax' or 'sigmoid'")
        if kl not in ("softmax", "sigmoid"):
            raise ValueError(f"kl={kl!r} must be 'softmax' or 'sigmoid'")
        self.cls_weight = cls_weight
        self.l1_weight = l1_weight
        self.giou_weight = giou_weight
        self.temperature = temperature
        self.kl_reduction = kl_reduction
        self.confidence = confidence
        self.kl = kl

    def forward(self, pairs: Sequence[LogitPair]) -> dict[str, Tensor]:
        """
        Args:
            pairs: one per query group, all stages of each.

        Returns:
            "class", "bbox", "giou": weighted scalars in float32, to be added up.
        """
        student_logits, student_boxes, teacher_logits, teacher_boxes = (
            torch.cat(parts, dim=2).float()
            for parts in zip(*(pair.predictions for pair in pairs), strict=True)
        )
        teacher_logits, teacher_boxes = teacher_logits.detach(), teacher_boxes.detach()
        errors = torch.stack(
            [
                self._kl(student_logits, teacher_logits),
                *_box_errors(student_boxes, teacher_boxes),
            ]
        )  # (3, E, B, Q), of all groups at once
        weights = self._confidence(teacher_logits)  # (E, B, Q)
        sizes = [pair.student_logits.shape[2] for pair in pairs]
        groups = zip(pairs, weights.split(sizes, dim=2), errors.split(sizes, dim=3), strict=True)
        terms = [_weighted_mean(*group) for group in groups]
        cls, l1, giou = torch.stack(terms).sum(dim=0)
        return {
            "class": self.cls_weight * cls,
            "bbox": self.l1_weight * l1,
            "giou": self.giou_weight * giou,
        }

    def _confidence(self, teacher_logits: Tensor) -> Tensor:
        """w of eq. (10), (E, B, Q)."""
        if self.confidence == "sigmoid":
            return teacher_logits.sigmoid().amax(dim=-1)
        return teacher_logits.softmax(dim=-1).amax(dim=-1)

    def _kl(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """T^2 * KL(teacher || student), (E, B, Q)."""
        student, teacher = student_logits / self.temperature, teacher_logits / self.temperature
        if self.kl == "sigmoid":
            # log(1 - sigmoid(x)) is logsigmoid(-x)
            divergence = _divergence(F.logsigmoid(student), F.logsigmoid(teacher)) + _divergence(
                F.logsigmoid(-student), F.logsigmoid(-teacher)
            )
        else:
            divergence = _divergence(student.log_softmax(-1), teacher.log_softmax(-1))
        reduced = divergence.sum(-1) if self.kl_reduction == "sum" else divergence.mean(-1)
        return self.temperature**2 * reduced


def _weighted_mean(pair: LogitPair, weights: Tensor, errors: Tensor) -> Tensor:
    """(3,) from a group's weights (E, B, Q) and errors (3, E, B, Q): stages added, with copies."""
    if pair.valid is not None:
        weights = weights * pair.valid
        errors = errors.where(pair.valid, 0)
    total = (weights * errors).sum(dim=(2, 3))  # (3, E)
    norm = weights.sum(dim=(1, 2)).clamp(min=torch.finfo(weights.dtype).tiny)  # (E,)
    return (total / norm).sum(dim=1) * pair.copies


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """p * (log p - log q) of log-probabilities q of the student and p of the teacher."""
    return F.kl_div(student, teacher, reduction="none", log_target=True)


def _box_errors(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """L1 and 1 - GIoU of cxcywh boxes (E, B, Q, 4) -> two (E, B, Q)."""
    l1 = (student - teacher).abs().sum(dim=-1)
    student_xyxy = box_convert(student, "cxcywh", "xyxy")
    teacher_xyxy = box_convert(teacher, "cxcywh", "xyxy")
    return l1, generalized_box_iou_loss(student_xyxy, teacher_xyxy)
