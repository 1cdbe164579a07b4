"""Adapter of Deformable-DETR."""

from torch import nn

from projects.clockdistill.modeling.adapters.base import FamilyAdapter


class DeformableDETRAdapter(FamilyAdapter):
    """Deformable-DETR: content and position queries, reference points, one head per layer.

    Source: Deformable DETR (arXiv:2010.04159), sec. 4.2 and appendix A.4. Reference points are
    centres; of the two-stage variant, boxes. Of a group's anchors a decoder of centres takes the
    centres. A group without position queries (of a decoder that derives them from anchors) gets
    the sine encoding of its anchors, D / 4 features per coordinate.
    """

    num_points = 300
    position_queries = True

    def has_sizes(self, detector: nn.Module) -> bool:
        return detector.transformer.as_two_stage
