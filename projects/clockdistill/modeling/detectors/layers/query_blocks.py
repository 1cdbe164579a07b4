"""Queries in blocks that do not see each other, without a mask over all of them."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class QueryBlocks:
    """What a (Q, Q) mask says whose blocks off the diagonal are all blocked, and a (B, Q) one.

    Attention that knows the blocks computes the diagonal alone: three blocks of 900 queries cost a
    third of 2,700 queries.

    Attributes:
        sizes: queries of each block, in order; their sum is Q.
        masks: for each block its own (n, n) bool mask, True = row may not see column, or None.
        paddings: for each block (B, n) bool, True = this query is seen by none, or None.
    """

    sizes: tuple[int, ...]
    masks: tuple[Tensor | None, ...]
    paddings: tuple[Tensor | None, ...]

    def __post_init__(self):
        assert len(self.sizes) == len(self.masks) == len(self.paddings)

    def dense_mask(self, device: torch.device) -> Tensor:
        """`masks` as one (Q, Q) bool mask, True = blocked, for attention that knows no blocks."""
        total = sum(self.sizes)
        mask = torch.ones(total, total, dtype=torch.bool, device=device)
        start = 0
        for size, own in zip(self.sizes, self.masks, strict=True):
            block = slice(start, start + size)
            mask[block, block] = False if own is None else own
            start += size
        return mask

    def dense_padding(self) -> Tensor | None:
        """`paddings` as one (B, Q) bool mask, True = seen by none; None if there is none."""
        known = [padding for padding in self.paddings if padding is not None]
        if not known:
            return None
        parts = [
            known[0].new_zeros(len(known[0]), size) if padding is None else padding
            for size, padding in zip(self.sizes, self.paddings, strict=True)
        ]
        return torch.cat(parts, dim=1)
