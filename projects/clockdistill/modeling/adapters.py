"""What differs between DETR families where queries and memory are concerned.

One adapter per family, for our detectors and for real detrex's alike: both call encoder and
decoder with the same keyword arguments.
"""

from typing import Any

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers.boxes import inverse_sigmoid
from projects.clockdistill.modeling.detectors.predictions import Predictions
from projects.clockdistill.modeling.structures import (
    EncoderOutput,
    QueryGroup,
    QueryLayout,
)


class DINOAdapter:
    """DINO: batch-first memory, content queries with 4-d anchors, one head per decoder stage.

    Source: DINO (arXiv:2203.03605), sec. 3.3 and 3.4; a stage's boxes are offsets from the
    anchors that the stage before left (look forward twice).
    """

    def encoder(self, detector: nn.Module) -> nn.Module:
        return detector.transformer.encoder

    def decoder(self, detector: nn.Module) -> nn.Module:
        return detector.transformer.decoder

    def read_encoder(self, kwargs: dict[str, Any], output: Tensor) -> EncoderOutput:
        return EncoderOutput(
            memory=output,
            padding_mask=kwargs["query_key_padding_mask"],
            spatial_shapes=kwargs["spatial_shapes"],
            valid_ratios=kwargs["valid_ratios"],
        )

    def read_queries(self, kwargs: dict[str, Any]) -> QueryGroup:
        return QueryGroup("own", kwargs["query"], kwargs["reference_points"])

    def write_queries(
        self, kwargs: dict[str, Any], own: QueryGroup | None, layout: QueryLayout
    ) -> dict[str, Any]:
        query, reference_points = kwargs["query"], kwargs["reference_points"]
        groups = ([] if own is None else [own]) + list(layout.groups)
        attn_masks = kwargs.get("attn_masks") or [None, None]
        own_mask = None if own is None else attn_masks[0]
        own_padding = None if own is None else kwargs.get("query_key_padding_mask")
        return {
            **kwargs,
            "query": torch.cat([group.content.to(query) for group in groups], dim=1),
            "reference_points": torch.cat(
                [group.reference_points.to(reference_points) for group in groups], dim=1
            ),
            "attn_masks": [layout.attn_mask(own_mask, query.device), *attn_masks[1:]],
            "query_key_padding_mask": layout.key_padding_mask(own_padding, len(query)),
        }

    def cut(self, output: tuple[Tensor, Tensor], part: slice) -> tuple[Tensor, Tensor]:
        inter_states, inter_references = output
        return inter_states[:, :, part], inter_references[:, :, part]

    def predict(
        self, detector: nn.Module, output: tuple[Tensor, Tensor], reference_points: Tensor
    ) -> Predictions:
        inter_states, inter_references = output
        references = [reference_points, *inter_references[:-1]]
        heads = list(zip(detector.class_embed, detector.bbox_embed, strict=True))
        stages = list(zip(inter_states, references, heads, strict=False))  # last head: proposals
        logits = [class_embed(state) for state, _, (class_embed, _) in stages]
        boxes = [
            (bbox_embed(state) + inverse_sigmoid(reference)).sigmoid()
            for state, reference, (_, bbox_embed) in stages
        ]
        return Predictions(torch.stack(logits), torch.stack(boxes))
