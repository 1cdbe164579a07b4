"""What all DETR families have in common where queries and memory are concerned.

The adapters serve our detectors and real detrex's alike: both call transformer, encoder and
decoder with the same arguments, in the same layouts.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers.attention import QueryBlocks
from projects.clockdistill.modeling.detectors.layers.boxes import boxes_around
from projects.clockdistill.modeling.detectors.predictions import Predictions
from projects.clockdistill.modeling.structures import (
    EncodedImages,
    FeatureLevels,
    QueryGroup,
    QueryLayout,
)


class FamilyAdapter(ABC):
    """Multi-level, batch-first detectors with one head a stage; a family overrides what differs."""

    def targets(
        self, detector: nn.Module, batched_inputs: list[dict[str, Any]]
    ) -> list[dict[str, Tensor]]:
        """Per image "labels" (N,) int64 and "boxes" (N, 4) cxcywh in [0, 1], unpadded image."""
        return detector.prepare_targets(batched_inputs)

    def running(self, detector: nn.Module) -> AbstractContextManager[Any]:
        """Is entered around every tapped forward pass."""
        return nullcontext()

    def embed_dim(self, detector: nn.Module) -> int:
        """D of memory and queries."""
        return detector.transformer.embed_dim

    def num_levels(self, detector: nn.Module) -> int:
        """L of the memory."""
        return detector.transformer.num_feature_levels

    def has_sizes(self, detector: nn.Module) -> bool:
        """Whether its queries are anchors with sizes, or centres alone."""
        return True

    def transformer(self, detector: nn.Module) -> nn.Module:
        """The module whose first two positional arguments are features and masks."""
        return detector.transformer

    def encoder(self, detector: nn.Module) -> nn.Module:
        """The module whose forward pass yields the memory."""
        return detector.transformer.encoder

    def decoder(self, detector: nn.Module) -> nn.Module:
        """The module whose forward pass takes the queries."""
        return detector.transformer.decoder

    def read_levels(self, args: tuple[Any, ...]) -> FeatureLevels:
        """What entered the transformer, from its positional arguments."""
        features, masks, *_ = args
        return FeatureLevels(tuple(features), tuple(masks))

    def read_memory(self, output: Tensor) -> Tensor:
        """(B, S, D), from what the encoder returned."""
        return output

    def replay(self, detector: nn.Module, encoded: EncodedImages) -> dict[nn.Module, Any]:
        """What backbone, neck and encoder would return for images that were encoded before."""
        outputs = {detector.backbone: {}, detector.neck: list(encoded.features)}
        if encoded.memory is not None:
            outputs[self.encoder(detector)] = encoded.memory
        return outputs

    def cut(self, output: tuple[Tensor, Tensor], part: slice) -> tuple[Tensor, Tensor]:
        """What the decoder would have returned for the queries of `part` alone."""
        states, references = output
        return states[:, :, part], references[:, :, part]

    @abstractmethod
    def read_queries(self, kwargs: dict[str, Any]) -> QueryGroup:
        """The detector's own queries, from the decoder's keyword arguments."""

    @abstractmethod
    def write_queries(self, kwargs: dict[str, Any], layout: QueryLayout) -> dict[str, Any]:
        """The decoder's keyword arguments for the queries of the layout."""

    def predict(
        self, detector: nn.Module, output: tuple[Tensor, Tensor], reference_points: Tensor
    ) -> Predictions:
        """Class and box predictions of every stage from the decoder's (cut) output.

        Args:
            detector: whose heads are asked.
            output: what the decoder returned.
            reference_points: (B, Q, 2 or 4) of these queries as they entered the decoder.
        """
        inter_states, inter_references = output
        first = reference_points if self.has_sizes(detector) else reference_points[..., :2]
        references = [first, *inter_references[:-1]]
        heads = list(zip(detector.class_embed, detector.bbox_embed, strict=True))
        stages = list(zip(inter_states, references, heads, strict=False))  # last head: proposals
        logits = [class_embed(state) for state, _, (class_embed, _) in stages]
        boxes = [
            boxes_around(reference, bbox_embed(state))
            for state, reference, (_, bbox_embed) in stages
        ]
        return Predictions(torch.stack(logits), torch.stack(boxes))


def joined(own: Tensor, groups: Sequence[Tensor], layout: QueryLayout, dim: int) -> Tensor:
    """One row of queries: the detector's own, where they are decoded, then the groups'."""
    parts = [own] if layout.keeps_own else []
    return torch.cat([*parts, *(group.to(own) for group in groups)], dim=dim)


def isolation(kwargs: dict[str, Any], layout: QueryLayout) -> dict[str, Any]:
    """The decoder's keyword arguments that keep own queries and groups apart.

    Args:
        kwargs: the decoder's own; their masks go on for the own queries.
        layout: where each group stands.
    """
    attn_masks = kwargs.get("attn_masks") or [None, None]
    masks = [attn_masks[0]] if layout.keeps_own else []
    masks += [None] * len(layout.groups)
    paddings = layout.paddings(kwargs.get("query_key_padding_mask"))
    blocks = QueryBlocks(layout.block_sizes, tuple(masks), paddings)
    return {"attn_masks": [blocks, *attn_masks[1:]], "query_key_padding_mask": None}
