"""What the forward hooks must know of a detector family.

The adapters serve our detectors and real detrex's alike: both call transformer, encoder and
decoder with the same arguments, in the same layouts.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers.attention import QueryBlocks
from projects.clockdistill.modeling.detectors.layers.boxes import boxes_around
from projects.clockdistill.modeling.detectors.layers.position_encoding import reference_features
from projects.clockdistill.modeling.detectors.predictions import Predictions
from projects.clockdistill.modeling.query_groups import QueryGroup


class FamilyAdapter:
    """Multi-level, batch-first detectors with one head per decoder layer.

    This describes DINO; another family overrides what differs. The hooks rely on a detector that
    calls its transformer with positional features and masks, and its decoder with keyword
    arguments.
    """

    num_points: ClassVar[int]  # queries of each sampled kind (CLoCKDistill, sec. 4.2)
    position_queries: ClassVar[bool] = False  # whether the decoder takes them, or derives its own

    def targets(
        self, detector: nn.Module, batched_inputs: list[dict[str, Any]]
    ) -> list[dict[str, Tensor]]:
        """Returns per image "labels" (N,) int64 and "boxes" (N, 4) of the unpadded image."""
        return detector.prepare_targets(batched_inputs)

    def run(
        self,
        detector: nn.Module,
        batched_inputs: list[dict[str, Any]],
        targets: list[dict[str, Tensor]] | None,
    ) -> Any:
        """Runs the detector's forward pass."""
        return detector(batched_inputs, targets)

    def detect(
        self, detector: nn.Module, batched_inputs: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Returns the results of a detector in eval mode, one with "instances" per image."""
        return detector(batched_inputs)

    def embed_dim(self, detector: nn.Module) -> int:
        """Returns D of memory and queries."""
        return detector.transformer.embed_dim

    def num_levels(self, detector: nn.Module) -> int:
        """Returns L of the memory."""
        return detector.transformer.num_feature_levels

    def has_sizes(self, detector: nn.Module) -> bool:
        """Returns whether its queries are anchors with sizes, or centres alone."""
        return True

    def transformer(self, detector: nn.Module) -> nn.Module:
        """Returns the module whose first two positional arguments are features and masks."""
        return detector.transformer

    def encoder(self, detector: nn.Module) -> nn.Module:
        """Returns the module whose forward pass yields the memory."""
        return detector.transformer.encoder

    def decoder(self, detector: nn.Module) -> nn.Module:
        """Returns the module whose forward pass takes the queries."""
        return detector.transformer.decoder

    def read_features(self, args: tuple[Any, ...]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Returns features and masks of each level, from the transformer's arguments."""
        features, masks, *_ = args
        return features, masks

    def read_memory(self, output: Tensor) -> Tensor:
        """Returns (B, S, D), from what the encoder returned."""
        return output

    def read_queries(self, kwargs: dict[str, Any]) -> QueryGroup:
        """Returns the detector queries, from the decoder's keyword arguments."""
        return QueryGroup(kwargs["query"], kwargs["reference_points"], kwargs.get("query_pos"))

    def append_queries(
        self, kwargs: dict[str, Any], groups: Sequence[QueryGroup], num_kept: int
    ) -> dict[str, Any]:
        """Returns the decoder's keyword arguments with the groups appended.

        Args:
            kwargs: the decoder's own keyword arguments.
            groups: at least one.
            num_kept: the detector queries; 0 decodes the groups alone.
        """
        references = kwargs["reference_points"]
        known = references.shape[-1]  # a decoder of centres takes the anchors' centres
        added = {
            **isolating_masks(kwargs, groups, num_kept),
            "query": append(kwargs["query"], self.contents(groups), num_kept),
            "reference_points": append(
                references,
                [group.reference_points[..., :known] for group in groups],
                num_kept,
            ),
        }
        if self.position_queries:
            positions = [_position(group) for group in groups]
            added["query_pos"] = append(kwargs["query_pos"], positions, num_kept)
        return kwargs | added

    def contents(self, groups: Sequence[QueryGroup]) -> list[Tensor]:
        """Returns each group's content queries (B, Q, D), as this family's decoder takes them."""
        return [
            group.content + group.position
            if group.sums_position and not self.position_queries
            else group.content
            for group in groups
        ]

    def select(self, output: tuple[Tensor, Tensor], part: slice) -> tuple[Tensor, Tensor]:
        """Returns what the decoder would have returned for the queries of `part` alone."""
        states, references = output
        return states[:, :, part], references[:, :, part]

    def predict(
        self,
        detector: nn.Module,
        kwargs: dict[str, Any],
        output: tuple[Tensor, Tensor],
        part: slice,
    ) -> Predictions:
        """Returns class and box predictions of every decoder layer.

        Args:
            detector: whose heads run.
            kwargs: keyword arguments that the decoder received.
            output: what it returned.
            part: the queries to predict.
        """
        inter_states, inter_references = self.select(output, part)
        references = [kwargs["reference_points"][:, part], *inter_references[:-1]]
        # There may be one more head, for the encoder's proposals.
        layers = list(
            zip(inter_states, references, detector.class_embed, detector.bbox_embed, strict=False)
        )
        logits = [class_embed(state) for state, _, class_embed, _ in layers]
        boxes = [
            boxes_around(reference, bbox_embed(state)) for state, reference, _, bbox_embed in layers
        ]
        return Predictions(torch.stack(logits), torch.stack(boxes))


def append(
    detector_queries: Tensor, groups: Sequence[Tensor], num_kept: int, dim: int = 1
) -> Tensor:
    """Returns the detector queries, where they are decoded, then the groups'."""
    parts = [detector_queries] if num_kept else []
    return torch.cat([*parts, *(group.to(detector_queries) for group in groups)], dim=dim)


def isolating_masks(
    kwargs: dict[str, Any], groups: Sequence[QueryGroup], num_kept: int
) -> dict[str, Any]:
    """Returns the decoder's keyword arguments that keep detector queries and groups apart.

    The first mask becomes `QueryBlocks`, which our attention reads; an adapter of other attention
    turns it into a dense mask.
    """
    first_mask, *other_masks = kwargs.get("attn_masks") or [None, None]
    sizes, masks = [len(group) for group in groups], [None] * len(groups)
    paddings = [group.padding for group in groups]
    if num_kept:
        sizes, masks = [num_kept, *sizes], [first_mask, *masks]
        paddings = [kwargs.get("query_key_padding_mask"), *paddings]
    blocks = QueryBlocks(tuple(sizes), tuple(masks), tuple(paddings))
    return {"attn_masks": [blocks, *other_masks], "query_key_padding_mask": None}


def _position(group: QueryGroup) -> Tensor:
    """Returns position queries; of a group without them, the sine encoding of its anchors."""
    if group.position is not None:
        return group.position
    return reference_features(group.reference_points, group.content.shape[-1] // 4)
