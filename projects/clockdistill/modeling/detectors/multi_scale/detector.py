"""What the multi-scale detectors, DINO and Deformable-DETR, share around their queries."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.base import Detector, Target, require_equal
from projects.clockdistill.modeling.detectors.criterion import SetCriterion
from projects.clockdistill.modeling.detectors.layers.boxes import boxes_around
from projects.clockdistill.modeling.detectors.levels import level_masks
from projects.clockdistill.modeling.detectors.multi_scale.transformer import (
    DeformableTransformer,
    TransformerOutput,
)
from projects.clockdistill.modeling.detectors.predictions import Predictions


class MultiScaleDetector(Detector, ABC):
    """Backbone, neck and a deformable transformer with one class and one box head per stage.

    A family sets `class_embed` and `bbox_embed`, and says which queries the transformer receives
    and which losses it is trained with.

    Args:
        backbone: images (B, 3, H, W) to a dict of features.
        position_embedding: masks to encodings of `embed_dim` channels.
        neck: features to levels of `embed_dim` channels.
        transformer: see `DeformableTransformer`.
        embed_dim: width of tokens and queries.
        num_classes: classes K.
        num_queries: matching queries Q.
        criterion: see `SetCriterion`.
        pixel_mean: see `Detector`.
        pixel_std: see `Detector`.
        aux_loss: supervise all decoder layers instead of the last.
        select_box_nums_for_evaluation: see `Detector`.
        input_format: see `Detector`.

    Raises:
        ValueError: if sizes that must agree do not.
    """

    class_embed: nn.ModuleList
    bbox_embed: nn.ModuleList

    def __init__(
        self,
        backbone: nn.Module,
        position_embedding: nn.Module,
        neck: nn.Module,
        transformer: DeformableTransformer,
        embed_dim: int,
        num_classes: int,
        num_queries: int,
        criterion: SetCriterion,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        aux_loss: bool,
        select_box_nums_for_evaluation: int,
        input_format: str,
    ):
        super().__init__(
            num_classes, pixel_mean, pixel_std, input_format, select_box_nums_for_evaluation
        )
        proposals = "transformer.two_stage_num_proposals"
        require_equal(
            ("embed_dim", embed_dim, "transformer.*.embed_dim", transformer.embed_dim),
            ("num_classes", num_classes, "criterion.num_classes", criterion.num_classes),
            ("num_queries", num_queries, proposals, transformer.two_stage_num_proposals),
        )
        self.backbone = backbone
        self.position_embedding = position_embedding
        self.neck = neck
        self.transformer = transformer
        self.embed_dim = embed_dim
        self.num_queries = num_queries
        self.criterion = criterion
        self.aux_loss = aux_loss

    def init_neck(self) -> None:
        """Xavier for the neck's convolutions."""
        for module in self.neck.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(
        self, batched_inputs: list[dict[str, Any]], targets: list[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Losses in train mode, detections in eval mode.

        Args:
            batched_inputs: detectron2's dicts: "image" (3, H, W) in 0 to 255, of its own size; in
                train mode "instances" with gt_boxes (absolute xyxy of that image) and gt_classes;
                in eval mode "height" and "width" of the original image, by default the image's.
            targets: what `prepare_targets` returns, read in train mode; by default prepared here.

        Returns:
            Train: weighted losses, scalars. Eval: per image {"instances": Instances} in pixels of
            the original image.
        """
        images, mask = self.preprocess_images(batched_inputs)
        if self.training and targets is None:
            targets = self.prepare_targets(batched_inputs)
        features = self.neck(self.backbone(images.tensor))
        masks = level_masks(mask, features)
        positions = [self.position_embedding(level) for level in masks]
        if self.training:
            return self.losses(features, masks, positions, targets)
        output = self.query(features, masks, positions)
        last = self.predict(output, first_stage=self.transformer.decoder.num_layers - 1)
        return self.detections(last, images.image_sizes, batched_inputs)

    @abstractmethod
    def query(
        self, features: list[Tensor], masks: list[Tensor], positions: list[Tensor]
    ) -> TransformerOutput:
        """Runs the transformer with the matching queries alone."""

    @abstractmethod
    def losses(
        self,
        features: list[Tensor],
        masks: list[Tensor],
        positions: list[Tensor],
        targets: list[Target],
    ) -> dict[str, Tensor]:
        """Runs the transformer and compares with the targets."""

    def predict(self, output: TransformerOutput, first_stage: int | None = None) -> Predictions:
        """Class logits and boxes of the decoder stages.

        Args:
            output: of the transformer.
            first_stage: the first to predict; by default the first that is supervised.
        """
        if first_stage is None:
            first_stage = 0 if self.aux_loss else self.transformer.decoder.num_layers - 1
        stages = range(first_stage, len(output.states))
        logits = [self.class_embed[stage](output.states[stage]) for stage in stages]
        boxes = [
            boxes_around(output.anchors[stage], self.bbox_embed[stage](output.states[stage]))
            for stage in stages
        ]
        return Predictions(torch.stack(logits), torch.stack(boxes))
