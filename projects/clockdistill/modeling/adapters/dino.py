"""DINO, seen by the taps."""

from typing import Any

from projects.clockdistill.modeling.adapters.base import FamilyAdapter, isolation, joined
from projects.clockdistill.modeling.structures import QueryGroup, QueryLayout


class DINOAdapter(FamilyAdapter):
    """DINO: content queries with 4-d anchors, one head per decoder stage.

    Source: DINO (arXiv:2203.03605), sec. 3.3 and 3.4; a stage's boxes are offsets from the
    anchors that the stage before left (look forward twice).
    """

    def read_queries(self, kwargs: dict[str, Any]) -> QueryGroup:
        return QueryGroup("own", kwargs["query"], kwargs["reference_points"])

    def write_queries(self, kwargs: dict[str, Any], layout: QueryLayout) -> dict[str, Any]:
        query, groups = kwargs["query"], layout.groups
        anchors = [group.reference_points for group in groups]
        return {
            **kwargs,
            **isolation(kwargs, layout),
            "query": joined(query, [group.content for group in groups], layout, dim=1),
            "reference_points": joined(kwargs["reference_points"], anchors, layout, dim=1),
        }
