"""Adapter of DAB-DETR."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.adapters.base import FamilyAdapter, append, isolating_masks
from projects.clockdistill.modeling.detectors.layers.boxes import boxes_around
from projects.clockdistill.modeling.detectors.predictions import Predictions
from projects.clockdistill.modeling.query_groups import QueryGroup

# Anchors enter before the sigmoid, which is infinite at 0 and 1.
EPS = 1e-5


class DABDETRAdapter(FamilyAdapter):
    """DAB-DETR: one level, sequence first, anchors before the sigmoid, one head for all layers.

    Source: DAB-DETR (arXiv:2201.12329), sec. 4; the decoder returns the anchors that each layer's
    offsets add to.
    """

    num_points = 300

    def num_levels(self, detector: nn.Module) -> int:
        return 1

    def read_features(self, args: tuple[Any, ...]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        features, mask, *_ = args
        return (features,), (mask,)

    def read_memory(self, output: Tensor) -> Tensor:
        return output.transpose(0, 1)

    def read_queries(self, kwargs: dict[str, Any]) -> QueryGroup:
        anchors = kwargs["anchor_box_embed"].sigmoid()
        return QueryGroup(kwargs["query"].transpose(0, 1), anchors.transpose(0, 1))

    def append_queries(
        self, kwargs: dict[str, Any], groups: Sequence[QueryGroup], num_kept: int
    ) -> dict[str, Any]:
        contents = [content.transpose(0, 1) for content in self.contents(groups)]
        anchors = [torch.logit(group.reference_points.transpose(0, 1), eps=EPS) for group in groups]
        return {
            **kwargs,
            **isolating_masks(kwargs, groups, num_kept),
            "query": append(kwargs["query"], contents, num_kept, dim=0),
            "anchor_box_embed": append(kwargs["anchor_box_embed"], anchors, num_kept, dim=0),
        }

    def predict(
        self,
        detector: nn.Module,
        kwargs: dict[str, Any],
        output: tuple[Tensor, Tensor],
        part: slice,
    ) -> Predictions:
        states, anchors = self.select(output, part)
        boxes = boxes_around(anchors, detector.bbox_embed(states))
        return Predictions(detector.class_embed(states), boxes)
