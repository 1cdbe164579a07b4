"""Deformable-DETR: a few sampled points per query instead of attention to every token."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.base import Target
from projects.clockdistill.modeling.detectors.criterion import SetCriterion, layer_suffixes
from projects.clockdistill.modeling.detectors.deformable_detr.transformer import (
    DeformableDETRTransformer,
)
from projects.clockdistill.modeling.detectors.multi_scale.detector import MultiScaleDetector
from projects.clockdistill.modeling.detectors.multi_scale.transformer import TransformerOutput
from projects.clockdistill.modeling.detectors.predictions import (
    Predictions,
    box_head,
    class_head,
)

# Before training a box is sigmoid(-2) = 12% of the image wide and high around its point.
SIZE_BIAS = -2.0


class DeformableCriterion(SetCriterion):
    """Matches and supervises the encoder's proposals as if every object were of class 0.

    Source: Deformable DETR (arXiv:2010.04159), appendix A.4, "Two-Stage Deformable DETR": the
    first stage scores foreground against background.
    """

    def matched_losses(
        self,
        decoder: Predictions,
        targets: Sequence[Target],
        encoder: Predictions | None,
        num_boxes: Tensor,
    ) -> dict[str, Tensor]:
        """Returns the losses by name; `encoder` holds a proposal for every token."""
        if encoder is None:
            return super().matched_losses(decoder, targets, None, num_boxes)
        # With the logit of class 0 in every class, one call of the matcher serves both.
        any_class = Predictions(encoder.logits[..., :1].expand_as(encoder.logits), encoder.boxes)
        matches, encoder_matches = self.matcher([decoder, any_class], targets)
        objects = [{**t, "labels": torch.zeros_like(t["labels"])} for t in targets]
        layers = self.layer_losses(decoder, matches, targets, num_boxes)
        proposals = self.layer_losses(encoder, encoder_matches, objects, num_boxes)
        return {
            **self.weighted(layers, layer_suffixes("", decoder)),
            **self.weighted(proposals, ["_enc"]),
        }


class DeformableDETR(MultiScaleDetector):
    """Deformable-DETR; numbers and state-dict keys equal detrex's.

    Source: Deformable DETR (arXiv:2010.04159).

    Padding never matters from the neck's output on, in train and eval mode. detrex's own first
    stage differs there: it supervises padded tokens as background and may choose them as queries.

    Arguments that are not listed are those of `MultiScaleDetector`.

    Args:
        criterion: in two stages a `DeformableCriterion`.
        with_box_refine: each layer refines the boxes of the layer before, with heads of its own;
            otherwise all layers look from the same points and share their heads.
        as_two_stage: the encoder proposes the boxes that the decoder refines.

    Raises:
        ValueError: if sizes that must agree do not, or two stages come without refinement.
    """

    def __init__(
        self,
        backbone: nn.Module,
        position_embedding: nn.Module,
        neck: nn.Module,
        transformer: DeformableDETRTransformer,
        embed_dim: int,
        num_classes: int,
        num_queries: int,
        criterion: SetCriterion,
        pixel_mean: Sequence[float] = (123.675, 116.280, 103.530),
        pixel_std: Sequence[float] = (58.395, 57.120, 57.375),
        aux_loss: bool = True,
        with_box_refine: bool = False,
        as_two_stage: bool = False,
        select_box_nums_for_evaluation: int = 100,
        input_format: str = "RGB",
    ):
        super().__init__(
            backbone=backbone,
            position_embedding=position_embedding,
            neck=neck,
            transformer=transformer,
            embed_dim=embed_dim,
            num_classes=num_classes,
            num_queries=num_queries,
            criterion=criterion,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
            aux_loss=aux_loss,
            select_box_nums_for_evaluation=select_box_nums_for_evaluation,
            input_format=input_format,
        )
        if as_two_stage != transformer.as_two_stage:
            raise ValueError(
                f"as_two_stage={as_two_stage} but "
                f"transformer.as_two_stage={transformer.as_two_stage}; they must be equal"
            )
        if as_two_stage and not with_box_refine:
            raise ValueError(
                "as_two_stage=True needs with_box_refine=True, got False: the first stage's boxes "
                "are refined by heads of their own. Fix: set model.with_box_refine=True"
            )
        self.as_two_stage = as_two_stage
        if not as_two_stage:
            # position and content of each query
            self.query_embedding = nn.Embedding(num_queries, 2 * embed_dim)

        # One head per decoder layer; in two stages a last one for the encoder's proposals.
        heads = transformer.decoder.num_layers + int(as_two_stage)
        classes, boxes = class_head(embed_dim, num_classes), box_head(embed_dim)
        if with_box_refine:
            self.class_embed = nn.ModuleList(copy.deepcopy(classes) for _ in range(heads))
            self.bbox_embed = nn.ModuleList(copy.deepcopy(boxes) for _ in range(heads))
            # The decoder refines with the same heads; the checkpoints name them twice.
            transformer.decoder.bbox_embed = self.bbox_embed
        else:
            # One head in many places; the checkpoints name it once for every layer.
            self.class_embed = nn.ModuleList([classes] * heads)
            self.bbox_embed = nn.ModuleList([boxes] * heads)
        if as_two_stage:
            transformer.decoder.class_embed = self.class_embed
        else:
            # Later layers refine: only the first layer's sizes come from the head alone.
            nn.init.constant_(self.bbox_embed[0].layers[-1].bias[2:], SIZE_BIAS)
        self.init_neck()

    def transform(
        self, features: list[Tensor], masks: list[Tensor], positions: list[Tensor]
    ) -> TransformerOutput:
        query_embed = None if self.as_two_stage else self.query_embedding.weight
        return self.transformer(features, masks, positions, query_embed)
