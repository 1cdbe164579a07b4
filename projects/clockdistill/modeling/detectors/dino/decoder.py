"""DINO's decoder: anchors give the position queries and are refined layer by layer."""

from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers.feed_forward import MLP
from projects.clockdistill.modeling.detectors.layers.position_encoding import reference_features
from projects.clockdistill.modeling.detectors.multi_scale.decoder import (
    DeformableTransformerDecoder,
)


class DINOTransformerDecoder(DeformableTransformerDecoder):
    """Decoder layers that refine boxes; anchors give the position queries.

    Source: DINO (arXiv:2203.03605), section 3.5 (look forward twice); DAB-DETR
    (arXiv:2201.12329), section 4.1 (position queries from anchors).

    Reference points are always boxes, and the detector always sets the heads.

    Args:
        embed_dim: width of the queries, divisible by 4.
        num_heads: see `DeformableTransformerDecoder`, as all further ones but the last.
        feedforward_dim: see there.
        attn_dropout: see there.
        ffn_dropout: see there.
        num_layers: see there.
        num_feature_levels: see there.
        look_forward_twice: a layer's box loss also trains the layer before it.
    """

    def __init__(
        self,
        embed_dim: int = 256,
        num_heads: int = 8,
        feedforward_dim: int = 1024,
        attn_dropout: float = 0.1,
        ffn_dropout: float = 0.1,
        num_layers: int = 6,
        num_feature_levels: int = 4,
        look_forward_twice: bool = True,
    ):
        if embed_dim % 4:
            raise ValueError(f"embed_dim must be divisible by 4, got {embed_dim}")
        super().__init__(
            embed_dim,
            num_heads,
            feedforward_dim,
            attn_dropout,
            ffn_dropout,
            num_layers,
            num_feature_levels,
        )
        self.look_forward_twice = look_forward_twice
        # embed_dim / 2 sine features for each of the four coordinates of an anchor
        self.ref_point_head = MLP(2 * embed_dim, embed_dim, embed_dim, 2)
        self.norm = nn.LayerNorm(embed_dim)

    def position_queries(self, query_pos: Tensor | None, level_references: Tensor) -> Tensor:
        """From the anchors in units of the finest level."""
        features = reference_features(level_references[:, :, 0], self.embed_dim // 2)
        return self.ref_point_head(features)
