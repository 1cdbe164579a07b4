"""What the multi-scale detectors, DINO and Deformable-DETR, share around their queries."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.base import (
    Detector,
    Target,
    level_masks,
    require_equal,
)
from projects.clockdistill.modeling.detectors.criterion import SetCriterion
from projects.clockdistill.modeling.detectors.layers.boxes import boxes_around
from projects.clockdistill.modeling.detectors.multi_scale.transformer import (
    DeformableTransformer,
    TransformerOutput,
)
from projects.clockdistill.modeling.detectors.predictions import Predictions

Levels = tuple[list[Tensor], list[Tensor], list[Tensor]]  # features, masks, position encodings


class MultiScaleDetector(Detector, ABC):
    """Backbone, neck and a deformable transformer with a class and a box head for each layer.

    A family sets `class_embed` and `bbox_embed`, and says which queries the transformer receives.
    Arguments that are not listed are those of `Detector`.

    Args:
        backbone: images (B, 3, H, W) to a dict of features.
        position_embedding: masks to encodings of `embed_dim` channels.
        neck: features to levels of `embed_dim` channels.
        transformer: of the family.
        embed_dim: width of tokens and queries.
        num_queries: matching queries Q.
        criterion: losses of the family.
        aux_loss: supervise all decoder layers instead of the last.

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
        """Draws Xavier matrices for the neck's convolutions."""
        for module in self.neck.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def losses(self, images: Tensor, mask: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        output = self.transform(*self.levels(images, mask))
        predictions = self.apply_heads(output, last_only=not self.aux_loss)
        return self.criterion(predictions, targets, output.proposals)

    def predictions(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        output = self.transform(*self.levels(images, mask))
        last = self.apply_heads(output, last_only=True)
        return last.logits[0], last.boxes[0]

    def levels(self, images: Tensor, mask: Tensor) -> Levels:
        """Returns per level the features, their padding and their position encodings."""
        features = self.neck(self.backbone(images))
        masks = level_masks(mask, features)
        return features, masks, [self.position_embedding(level) for level in masks]

    @abstractmethod
    def transform(
        self, features: list[Tensor], masks: list[Tensor], positions: list[Tensor]
    ) -> TransformerOutput:
        """Runs the transformer with the matching queries alone."""

    def apply_heads(self, output: TransformerOutput, last_only: bool) -> Predictions:
        """Returns class logits and boxes of all decoder layers, or of the last alone."""
        count = self.transformer.decoder.num_layers
        layers = range(count - 1 if last_only else 0, count)
        logits = [self.class_embed[layer](output.states[layer]) for layer in layers]
        boxes = [
            boxes_around(output.anchors[layer], self.bbox_embed[layer](output.states[layer]))
            for layer in layers
        ]
        return Predictions(torch.stack(logits), torch.stack(boxes))
