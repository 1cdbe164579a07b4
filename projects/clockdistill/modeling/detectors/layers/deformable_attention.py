"""Multi-scale deformable attention."""

import math

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers.deformable_sampling import deformable_sample
from projects.clockdistill.modeling.detectors.layers.plain import use_plain_operators


class DeformableAttention(nn.Module):
    """Each query looks at a few learned points around its reference on every level.

    Source: Deformable DETR (arXiv:2010.04159), section 4.1 and eq. (3).

    Args:
        embed_dim: width of queries and values.
        num_heads: heads; divides `embed_dim`.
        num_levels: feature levels of the memory.
        num_points: points per head and level.
    """

    def __init__(self, embed_dim: int, num_heads: int, num_levels: int, num_points: int = 4):
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} is not divisible by num_heads {num_heads}")
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dim, samples * 2)
        self.attention_weights = nn.Linear(embed_dim, samples)
        self.value_proj = nn.Linear(embed_dim, embed_dim)
        self.output_proj = nn.Linear(embed_dim, embed_dim)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Points each head in a direction of its own, point k at distance k + 1.

        Source: Deformable DETR, appendix A.4: offsets and weights ignore the query at first.
        """
        nn.init.zeros_(self.sampling_offsets.weight)
        angle = torch.arange(self.num_heads, dtype=torch.float32) * (2 * math.pi / self.num_heads)
        direction = torch.stack((angle.cos(), angle.sin()), dim=-1)  # (M, 2)
        direction = direction / direction.abs().amax(dim=-1, keepdim=True)  # on the unit square
        distance = torch.arange(1, self.num_points + 1, dtype=torch.float32)[:, None]
        offsets = direction[:, None, None] * distance  # (M, 1, P, 2)
        self.sampling_offsets.bias.copy_(
            offsets.expand(-1, self.num_levels, -1, -1).flatten()  # (M, L, P, 2)
        )
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        reference_points: Tensor,
        spatial_shapes: list[tuple[int, int]],
        key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Gathers what each query looks at in the memory.

        Args:
            query: (B, Q, D), positions already added.
            value: (B, S, D) memory tokens.
            reference_points: (B, Q, L, 2) points or (B, Q, L, 4) cxcywh, in [0, 1] of the padded
                level. Offsets count in cells around a point, in eighths of the box's size
                (with 4 points) around a box.
            spatial_shapes: (H, W) of each level, on the host.
            key_padding_mask: (B, S) bool, True = token counts as 0.

        Returns:
            (B, Q, D).

        Raises:
            ValueError: if levels, tokens and shapes disagree.
        """
        batch, tokens, _ = value.shape
        size = sum(h * w for h, w in spatial_shapes)
        if len(spatial_shapes) != self.num_levels or size != tokens:
            raise ValueError(
                f"memory has {tokens} tokens and spatial shapes {spatial_shapes}; "
                f"this layer was built for {self.num_levels} levels"
            )
        value = self.value_proj(value.flatten(0, 1))  # flat: in place on a view, gradients copy
        if key_padding_mask is not None:
            value = value.masked_fill_(key_padding_mask.flatten()[:, None], 0.0)
        value = value.view(batch, tokens, self.num_heads, -1)
        locations, weights = self.sampling(query, reference_points, spatial_shapes)
        return self.output_proj(deformable_sample(value, spatial_shapes, locations, weights))

    def sampling(
        self, query: Tensor, reference_points: Tensor, spatial_shapes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """Returns where each query looks, and how much each point counts; as in `forward`.

        Returns:
            locations: (B, Q, M, L, P, 2) as (x, y) in units of the padded level.
            weights: (B, Q, M, L, P), sum 1 over all points of a head.
        """
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1))
        weights = _softmax(weights).unflatten(-1, (self.num_levels, self.num_points))
        locations = self._locations(self.sampling_offsets(query), reference_points, spatial_shapes)
        return locations, weights

    def _locations(
        self, offsets: Tensor, reference_points: Tensor, spatial_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Returns sampling locations (B, Q, M, L, P, 2) in units of the padded level, as (x, y).

        Args:
            offsets: (B, Q, M * L * P * 2). Levels, points and (x, y) stay one dimension as long as
                possible: torch vectorises along the last one, and 2 numbers fill no register.
            reference_points: (B, Q, L, 2 or 4).
            spatial_shapes: (H, W) of each level, on the host.
        """
        offsets = offsets.unflatten(-1, (self.num_heads, -1))
        if reference_points.shape[-1] == 2:
            # Made on the device: a copy from the host would wait for it.
            sizes = [reference_points.new_full((), n) for h, w in spatial_shapes for n in (w, h)]
            unit = torch.stack(sizes).reciprocal().view(-1, 2)  # (L, 2)
        else:
            unit = reference_points[..., 2:] * (0.5 / self.num_points)
        centres = self._per_point(reference_points[..., :2])
        locations = torch.addcmul(centres, offsets, self._per_point(unit))
        return locations.unflatten(-1, (self.num_levels, self.num_points, 2))

    def _per_point(self, per_level: Tensor) -> Tensor:
        """Repeats each level's pair for all its points: (..., L, 2) -> (..., 1, L * P * 2)."""
        pairs = per_level[..., None, :, None, :]
        return pairs.expand(*pairs.shape[:-2], self.num_points, 2).flatten(-3)


def _softmax(weights: Tensor) -> Tensor:
    """Computes the softmax over the last dimension.

    Along the last dimension torch's CPU kernel fills whole vector registers only: 12 weights take
    ten times as long as 16. Along the first it fills them whatever the number, at the price of two
    copies.
    """
    if weights.is_cpu and weights.shape[-1] % 16 and not use_plain_operators():
        return weights.movedim(-1, 0).softmax(0).movedim(0, -1)
    return weights.softmax(-1)
