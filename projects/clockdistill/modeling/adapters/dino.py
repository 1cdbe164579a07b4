"""Adapter of DINO."""

from projects.clockdistill.modeling.adapters.base import FamilyAdapter


class DINOAdapter(FamilyAdapter):
    """DINO: content queries with 4-d anchors, one head per decoder layer.

    Source: DINO (arXiv:2203.03605), sec. 3.3 and 3.4; a layer's boxes are offsets from the
    anchors that the layer before left (look forward twice).
    """

    num_points = 900
