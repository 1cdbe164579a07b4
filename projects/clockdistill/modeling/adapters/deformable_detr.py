"""Deformable-DETR, seen by the taps."""

from typing import Any

from torch import Tensor, nn

from projects.clockdistill.modeling.adapters.base import FamilyAdapter, isolation, joined
from projects.clockdistill.modeling.detectors.layers.position_encoding import reference_features
from projects.clockdistill.modeling.structures import QueryGroup, QueryLayout


class DeformableDETRAdapter(FamilyAdapter):
    """Deformable-DETR: content and position queries, reference points, one head per stage.

    Source: Deformable DETR (arXiv:2010.04159), sec. 4.2 and appendix A.4. Reference points are
    centres; of the two-stage variant, boxes. Of a group's anchors a decoder of centres takes the
    centres. A group without position queries (of a decoder that makes them from anchors) gets the
    sine encoding of its anchors, D / 4 features a coordinate.
    """

    def has_sizes(self, detector: nn.Module) -> bool:
        return detector.transformer.as_two_stage

    def read_queries(self, kwargs: dict[str, Any]) -> QueryGroup:
        return QueryGroup(
            "own", kwargs["query"], kwargs["reference_points"], position=kwargs["query_pos"]
        )

    def write_queries(self, kwargs: dict[str, Any], layout: QueryLayout) -> dict[str, Any]:
        query, groups = kwargs["query"], layout.groups
        known = kwargs["reference_points"].shape[-1]
        references = [group.reference_points[..., :known] for group in groups]
        positions = [_position(group) for group in groups]
        return {
            **kwargs,
            **isolation(kwargs, layout),
            "query": joined(query, [group.content for group in groups], layout, dim=1),
            "query_pos": joined(kwargs["query_pos"], positions, layout, dim=1),
            "reference_points": joined(kwargs["reference_points"], references, layout, dim=1),
        }


def _position(group: QueryGroup) -> Tensor:
    if group.position is not None:
        return group.position
    return reference_features(group.reference_points, group.content.shape[-1] // 4)
