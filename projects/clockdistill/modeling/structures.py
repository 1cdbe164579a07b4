"""What travels between the rooms of `modeling/`: shapes are declared here and nowhere else.

What detectors predict for queries is `detectors.predictions.Predictions`.

Letters: B images, L feature levels, S tokens over all levels, D channels, E decoder stages,
Q queries, K classes. Boxes are cxcywh in [0, 1] of the unpadded image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from projects.clockdistill.modeling.detectors.predictions import Predictions


@dataclass(frozen=True)
class FeatureLevels:
    """What a detector's neck gave to its transformer, and which part of it is padding.

    Attributes:
        features: per level (B, D, H_l, W_l).
        masks: per level (B, H_l, W_l) bool, True = padding.
    """

    features: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(H, W) of each level, on the host."""
        return [(mask.shape[-2], mask.shape[-1]) for mask in self.masks]

    @property
    def padding_mask(self) -> Tensor:
        """(B, S) bool, True = padding."""
        return torch.cat([mask.flatten(1) for mask in self.masks], dim=1)

    @property
    def valid_ratios(self) -> Tensor:
        """(B, L, 2) in (0, 1] as (w, h): the part of each level that is not padding."""
        ratios = [
            torch.stack(((~mask[:, 0]).float().mean(1), (~mask[:, :, 0]).float().mean(1)), dim=-1)
            for mask in self.masks
        ]
        return torch.stack(ratios, dim=1)


@dataclass(frozen=True)
class EncodedImages:
    """What a detector computes of images in front of its decoder.

    Attributes:
        features: per level (B, D, H_l, W_l), as the neck gives them.
        memory: (B, S, D), or None where the encoder did not run.
    """

    features: tuple[Tensor, ...]
    memory: Tensor | None

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self._tensors())

    def split(self) -> list["EncodedImages"]:
        """One for each image, B = 1; views."""
        return [
            self._map(lambda x, image=image: x[image : image + 1])
            for image in range(len(self.features[0]))
        ]

    def clone(self) -> "EncodedImages":
        """A copy."""
        return self._map(torch.clone)

    @staticmethod
    def cat(parts: Sequence["EncodedImages"]) -> "EncodedImages":
        """Several as one batch; all of one size, all with or all without memory."""
        levels = zip(*(part.features for part in parts), strict=True)
        memories = [part.memory for part in parts]
        memory = None if memories[0] is None else torch.cat(memories)
        return EncodedImages(tuple(map(torch.cat, levels)), memory)

    def _tensors(self) -> list[Tensor]:
        return [*self.features] if self.memory is None else [*self.features, self.memory]

    def _map(self, function: Callable[[Tensor], Tensor]) -> "EncodedImages":
        memory = None if self.memory is None else function(self.memory)
        return EncodedImages(tuple(map(function, self.features)), memory)


@dataclass(frozen=True)
class QueryGroup:
    """Queries that enter a decoder together, see each other and see no other query.

    Attributes:
        name: says which kind of query it is, in logs and errors.
        content: (B, Q, D).
        reference_points: (B, Q, 4) anchors, or (B, Q, 2) centres of a decoder that knows no
            sizes; carry no gradient.
        position: (B, Q, D) position queries for decoders that do not derive them from anchors.
        valid: (B, Q) bool, False = filler that no query attends to and no loss counts;
            None = every query is valid.
        copies: how many isolated, equal copies of this group the loss counts.
    """

    name: str
    content: Tensor
    reference_points: Tensor
    position: Tensor | None = None
    valid: Tensor | None = None
    copies: int = 1

    def __post_init__(self):
        assert self.content.shape[:2] == self.reference_points.shape[:2], self.name
        assert self.reference_points.shape[-1] in (2, 4), self.name
        assert self.position is None or self.position.shape == self.content.shape, self.name

    def __len__(self) -> int:
        return self.content.shape[1]


@dataclass(frozen=True)
class TappedForward:
    """One forward pass of a detector, with what the taps read on the way.

    Attributes:
        output: what the detector returned; None if the pass was stopped after the last tap.
        levels: what entered the transformer.
        memory: (B, S, D), the encoder's output, if asked for.
        own_queries: the detector's own queries as they entered the decoder, if asked for.
        own: predictions of `own_queries`, if asked for.
        groups: predictions of the appended groups, in their order.
    """

    output: Any
    levels: FeatureLevels
    memory: Tensor | None
    own_queries: QueryGroup | None
    own: Predictions | None
    groups: tuple[Predictions, ...]


class QueryLayout:
    """Where each group stands on the query axis: [own (denoising | matching) | group 0 | ...].

    The only place that knows offsets.

    Args:
        own: number of the detector's own queries, 0 if only groups are decoded.
        groups: the appended groups.
    """

    def __init__(self, own: int, groups: tuple[QueryGroup, ...]):
        self.groups = groups
        self.own = slice(0, own)
        self.group_slices: list[slice] = []
        start = own
        for group in groups:
            self.group_slices.append(slice(start, start + len(group)))
            start += len(group)
        self.total = start

    @property
    def keeps_own(self) -> bool:
        """Whether the detector's own queries are decoded."""
        return self.own.stop > 0

    @property
    def block_sizes(self) -> tuple[int, ...]:
        """Number of queries of each part of the axis: those that see each other."""
        parts = [self.own, *self.group_slices] if self.keeps_own else self.group_slices
        return tuple(part.stop - part.start for part in parts)

    def paddings(self, own_mask: Tensor | None) -> tuple[Tensor | None, ...]:
        """Which queries nobody attends to, for each of `block_sizes`.

        A group without any valid query in an image keeps its filler visible to itself, since a
        softmax over nothing is not finite; no loss counts what comes out of it.

        Args:
            own_mask: (B, own) bool mask of the own queries, True = never attended to, or None.

        Returns:
            Each (B, n) bool, or None if every query of that part may be attended to.
        """
        of_groups = tuple(
            None if group.valid is None else ~group.valid & group.valid.any(dim=1, keepdim=True)
            for group in self.groups
        )
        return (own_mask, *of_groups) if self.keeps_own else of_groups
