"""Losses of Deformable-DETR, whose encoder tells objects from background only."""

from collections.abc import Sequence

import torch
from torch import Tensor

from projects.clockdistill.modeling.detectors.base import Target
from projects.clockdistill.modeling.detectors.criterion import SetCriterion
from projects.clockdistill.modeling.detectors.predictions import Predictions


class DeformableCriterion(SetCriterion):
    """Matches and supervises the encoder's proposals as if every object were of class 0.

    Source: Deformable DETR (arXiv:2010.04159), appendix A.4, "Two-Stage Deformable DETR": the
    first stage scores foreground against background.
    """

    def matched_losses(
        self,
        decoder: Predictions,
        targets: Sequence[Target],
        encoder: Predictions | None,
        num_boxes: Tensor,
    ) -> dict[str, Tensor]:
        """See `SetCriterion`; `encoder` holds a proposal for every token."""
        losses = super().matched_losses(decoder, targets, None, num_boxes)
        if encoder is None:
            return losses
        objects = [{**t, "labels": torch.zeros_like(t["labels"])} for t in targets]
        (matches,) = self.matcher([encoder], objects)
        stage_losses = self.stage_losses(encoder, matches, objects, num_boxes)
        return losses | self.weighted(stage_losses, ["_enc"])
