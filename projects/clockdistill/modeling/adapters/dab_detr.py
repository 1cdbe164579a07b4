"""DAB-DETR, seen by the taps."""

from typing import Any

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.adapters.base import FamilyAdapter, isolation, joined
from projects.clockdistill.modeling.detectors.layers.boxes import boxes_around
from projects.clockdistill.modeling.detectors.predictions import Predictions
from projects.clockdistill.modeling.structures import (
    EncodedImages,
    FeatureLevels,
    QueryGroup,
    QueryLayout,
)

# Anchors enter before the sigmoid, which is infinite at 0 and 1.
EPS = 1e-5


class DABDETRAdapter(FamilyAdapter):
    """DAB-DETR: one level, sequence first, anchors before the sigmoid, one head for all stages.

    Source: DAB-DETR (arXiv:2201.12329), sec. 4; the decoder returns the anchors that each stage's
    offsets add to.
    """

    def num_levels(self, detector: nn.Module) -> int:
        return 1

    def read_levels(self, args: tuple[Any, ...]) -> FeatureLevels:
        features, mask, *_ = args
        return FeatureLevels((features,), (mask,))

    def read_memory(self, output: Tensor) -> Tensor:
        return output.transpose(0, 1)

    def replay(self, detector: nn.Module, encoded: EncodedImages) -> dict[nn.Module, Any]:
        (features,) = encoded.features
        outputs = {
            detector.backbone: {detector.in_features[-1]: features},
            detector.input_proj: features,
        }
        if encoded.memory is not None:
            outputs[self.encoder(detector)] = encoded.memory.transpose(0, 1)
        return outputs

    def read_queries(self, kwargs: dict[str, Any]) -> QueryGroup:
        anchors = kwargs["anchor_box_embed"].sigmoid()
        return QueryGroup("own", kwargs["query"].transpose(0, 1), anchors.transpose(0, 1))

    def write_queries(self, kwargs: dict[str, Any], layout: QueryLayout) -> dict[str, Any]:
        query, groups = kwargs["query"], layout.groups
        contents = [group.content.transpose(0, 1) for group in groups]
        anchors = [torch.logit(group.reference_points.transpose(0, 1), eps=EPS) for group in groups]
        return {
            **kwargs,
            **isolation(kwargs, layout),
            "query": joined(query, contents, layout, dim=0),
            "anchor_box_embed": joined(kwargs["anchor_box_embed"], anchors, layout, dim=0),
        }

    def predict(
        self, detector: nn.Module, output: tuple[Tensor, Tensor], reference_points: Tensor
    ) -> Predictions:
        states, anchors = output
        boxes = boxes_around(anchors, detector.bbox_embed(states))
        return Predictions(detector.class_embed(states), boxes)
