"""Logit distillation. Letters: E decoder layers, B images, Q queries of all groups, K classes."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_convert

from projects.clockdistill.modeling.detectors.layers.boxes import generalized_iou
from projects.clockdistill.modeling.detectors.normalisers import mean_over_ranks
from projects.clockdistill.modeling.detectors.predictions import Predictions
from projects.clockdistill.modeling.query_groups import QueryGroup


class LogitDistillLoss(nn.Module):
    """KL, L1 and GIoU between the predictions for shared queries, weighted by the teacher.

    Source: CLoCKDistill (arXiv:2502.10683), eq. (9) and (10):
    sum over layers and queries of w * (cls * KL + l1 * L1 + giou * GIoU). What the paper leaves
    open is an option here (docs/paper.md has the evidence for each default):

    - `normalised`: which terms are divided by w. Default "none": the literal sum, averaged over
      the images. With "all", each group's sum is divided by its sum of w, layer by layer, and the
      groups are added (a group that stands for n copies n times): the loss is then of the size of
      the detector's own per-layer losses, and a handful of ground-truth queries weighs as much as
      900 sampled ones. "boxes" divides L1 and GIoU in this way and leaves the class term a sum, as
      KD-DETR's public code does. The sum of w is averaged over all processes and chunks, as the
      detectors' number of objects is, and a term that is not divided is averaged over the images,
      so that a batch gives the same on any number of GPUs. KD-DETR's public code adds up the 8
      images of a GPU: `cls_weight` 8 gives the same.
    - `temperature`: T, which the paper does not give. The class term has a factor T^2, as in
      KD-DETR's public code (T = 10), which keeps the gradient's size when T changes; eq. (9) has
      none, and with T = 1 it changes nothing.
    - `kl_reduction`: "sum" over classes is the divergence that eq. (9) names; "mean" over classes
      is what KD-DETR's public code computes, K times smaller.
    - `confidence`: eq. (10) with the "softmax" that eq. (9) defines, or with the "sigmoid" of
      KD-DETR's public code. Default "sigmoid": the detectors here are trained with a sigmoid
      focal loss, so a background query has low logits in every class, which a softmax cannot
      tell from an object (it is blind to a shift of all logits).
    - `kl`: the divergence of eq. (9), between "softmax" distributions over the classes; or, beyond
      the paper and for the same reason, "sigmoid": the divergence between Bernoulli
      distributions, class by class, so that the teacher's "none of them" is matched too. At
      T = 10 it is close to an eighth of the squared difference of the logits.
    - `layers`: with which of the teacher's decoder layers a student's layer is matched. "same":
      its own where both have as many layers, otherwise only the last with the last (sec. 4.5.2).
      "teacher_last": every layer with the teacher's last, as in KD-DETR's public code.
    - `l1_reduction`: "sum" over the four coordinates, as in the detectors' own loss that shares
      its weight, or "mean", as in KD-DETR's public code.

    Args:
        cls_weight: lambda_cls (paper: 1).
        l1_weight: lambda_L1 (paper: 5).
        giou_weight: lambda_GIoU (paper: 2).
        temperature: T of eq. (9).
        kl_reduction: how classes are reduced.
        confidence: sigma of eq. (10).
        kl: which distributions are compared.
        layers: which decoder layers are matched.
        normalised: which terms are divided by the sum of w.
        l1_reduction: how coordinates are reduced.
    """

    # loss -> the argument that it is proportional to
    weight_names: ClassVar[dict[str, str]] = {
        "class": "cls_weight",
        "bbox": "l1_weight",
        "giou": "giou_weight",
    }

    def __init__(
        self,
        cls_weight: float = 1.0,
        l1_weight: float = 5.0,
        giou_weight: float = 2.0,
        temperature: float = 1.0,
        kl_reduction: Literal["sum", "mean"] = "sum",
        confidence: Literal["softmax", "sigmoid"] = "sigmoid",
        kl: Literal["softmax", "sigmoid"] = "softmax",
        layers: Literal["same", "teacher_last"] = "same",
        normalised: Literal["all", "boxes", "none"] = "none",
        l1_reduction: Literal["sum", "mean"] = "sum",
    ):
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature={temperature} must be positive")
        for name, value, allowed in (
            ("kl_reduction", kl_reduction, ("sum", "mean")),
            ("confidence", confidence, ("softmax", "sigmoid")),
            ("kl", kl, ("softmax", "sigmoid")),
            ("layers", layers, ("same", "teacher_last")),
            ("normalised", normalised, ("all", "boxes", "none")),
            ("l1_reduction", l1_reduction, ("sum", "mean")),
        ):
            if value not in allowed:
                expected = " or ".join(map(repr, allowed))
                raise ValueError(f"{name}={value!r} must be {expected}")
        self.cls_weight = cls_weight
        self.l1_weight = l1_weight
        self.giou_weight = giou_weight
        self.temperature = temperature
        self.kl_reduction = kl_reduction
        self.confidence = confidence
        self.kl = kl
        self.layers = layers
        self.normalised = normalised
        self.l1_reduction = l1_reduction

    def forward(
        self,
        student: Predictions,
        teacher: Predictions,
        groups: Sequence[QueryGroup],
        norms: Tensor | None = None,
        share: Tensor | float = 1.0,
    ) -> dict[str, Tensor]:
        """Compares the predictions for the queries of all groups.

        Args:
            student: logits (E, B, Q, K), boxes (E, B, Q, 4).
            teacher: the same, of its own number of layers; receives no gradient.
            groups: which queries belong together, in order; their lengths add up to Q.
            norms: what `norms` returns for the batch that this is a chunk of; by default this is
                the whole batch.
            share: the number of images of the chunk, divided by its mean over all chunks and
                processes, where these numbers differ.

        Returns:
            "loss_distill_class", "loss_distill_bbox" and "loss_distill_giou": weighted scalars in
            float32, to be added up.
        """
        if norms is None:
            norms = self.norms([teacher], [groups])
        student, teacher, norms = self._paired_layers(student, teacher, norms)
        student_logits, student_boxes = student.logits.float(), student.boxes.float()
        teacher_logits = teacher.logits.float().detach()
        teacher_boxes = teacher.boxes.float().detach()
        errors = torch.stack(
            [
                self._kl(student_logits, teacher_logits),
                *self._box_errors(student_boxes, teacher_boxes),
            ]
        )  # (3, E, B, Q)
        weights = self._confidence(teacher_logits)  # (E, B, Q)
        sizes = [len(group) for group in groups]
        parts = zip(
            groups,
            weights.split(sizes, dim=2),
            errors.split(sizes, dim=3),
            self._divisors(norms, weights.shape[1] / share),
            strict=True,
        )
        cls, l1, giou = torch.stack([_weighted_mean(*part) for part in parts]).sum(dim=0)
        return {
            "loss_distill_class": self.cls_weight * cls,
            "loss_distill_bbox": self.l1_weight * l1,
            "loss_distill_giou": self.giou_weight * giou,
        }

    @torch.no_grad()
    def norms(
        self, teachers: Sequence[Predictions], groups: Sequence[Sequence[QueryGroup]]
    ) -> Tensor:
        """Returns each group's sum of w, averaged over the chunks of a batch and all processes.

        A collective operation: every rank calls it.

        Args:
            teachers: the predictions for each chunk, of E layers.
            groups: of each chunk.

        Returns:
            (groups, E).
        """
        sums = []
        for teacher, chunk in zip(teachers, groups, strict=True):
            weights = self._confidence(teacher.logits.float())
            for group, part in zip(chunk, weights.split([*map(len, chunk)], dim=2), strict=True):
                part = part if group.valid is None else part * group.valid
                sums.append(part.sum(dim=(1, 2)))
        layers = len(sums[0])
        return mean_over_ranks(torch.stack(sums).view(len(teachers), -1, layers).mean(dim=0))

    def _paired_layers(
        self, student: Predictions, teacher: Predictions, norms: Tensor
    ) -> tuple[Predictions, Predictions, Tensor]:
        """Returns as many layers of both: with each layer of the student, the teacher's."""
        layers = len(student.logits)
        last, last_norms = teacher.layers(slice(-1, None)), norms[:, -1:]
        if self.layers == "teacher_last":
            logits = last.logits.expand(layers, -1, -1, -1)
            return student, Predictions(logits, last.boxes.expand(layers, -1, -1, -1)), last_norms
        if layers == len(teacher.logits):
            return student, teacher, norms
        return student.layers(slice(-1, None)), last, last_norms

    def _divisors(self, norms: Tensor, images: Tensor | float) -> Tensor:
        """Returns what each group's class, L1 and GIoU term is divided by, (groups, 3, E or 1)."""
        by_weight = norms[:, None].expand(-1, 3, -1).clone()
        undivided = {"all": 0, "boxes": 1, "none": 3}[self.normalised]
        by_weight[:, :undivided] = images
        return by_weight

    def _confidence(self, teacher_logits: Tensor) -> Tensor:
        """Returns w of eq. (10), (E, B, Q)."""
        if self.confidence == "sigmoid":
            return teacher_logits.sigmoid().amax(dim=-1)
        return teacher_logits.softmax(dim=-1).amax(dim=-1)

    def _kl(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Returns T^2 * KL(teacher || student), (E, B, Q)."""
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

    def _box_errors(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Returns L1 and 1 - GIoU of cxcywh boxes (E, B, Q, 4) -> two (E, B, Q)."""
        distances = (student - teacher).abs()
        l1 = distances.sum(-1) if self.l1_reduction == "sum" else distances.mean(-1)
        student_xyxy = box_convert(student, "cxcywh", "xyxy")
        teacher_xyxy = box_convert(teacher, "cxcywh", "xyxy")
        # torchvision's own loss selects by a boolean mask, which waits for the device
        return l1, 1 - generalized_iou(student_xyxy, teacher_xyxy, eps=1e-7)


def _weighted_mean(group: QueryGroup, weights: Tensor, errors: Tensor, divisor: Tensor) -> Tensor:
    """Returns (3,), the sum over the E layers of a group's sum of weight * error by its divisor.

    Args:
        group: the group.
        weights: (E, B, Q).
        errors: (3, E, B, Q).
        divisor: (3, E), or (3, 1) for all layers.
    """
    if group.valid is not None:
        weights = weights * group.valid
        errors = errors.where(group.valid, 0)
    total = (weights * errors).sum(dim=(2, 3))  # (3, E)
    divisor = divisor.clamp(min=torch.finfo(weights.dtype).tiny)
    return (total / divisor).sum(dim=1) * group.copies


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Returns p * (log p - log q) of log-probabilities q of the student and p of the teacher."""
    return F.kl_div(student, teacher, reduction="none", log_target=True)
