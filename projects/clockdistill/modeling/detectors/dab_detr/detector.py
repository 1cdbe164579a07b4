"""DAB-DETR: DETR whose queries are anchor boxes, on the backbone's last level."""

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
from projects.clockdistill.modeling.detectors.dab_detr.transformer import DABDETRTransformer
from projects.clockdistill.modeling.detectors.layers.boxes import boxes_around, inverse_sigmoid
from projects.clockdistill.modeling.detectors.predictions import (
    Predictions,
    box_head,
    class_head,
)


class DABDETR(Detector):
    """DAB-DETR; numbers and state-dict keys equal detrex's.

    Source: DAB-DETR (arXiv:2201.12329). Differs from detrex's: padded tokens are masked in train
    and eval mode alike, and in the decoder too. detrex masks them in train mode and in the encoder
    only, so that its queries attend to padding. Arguments that are not listed are those of
    `Detector`.

    Args:
        backbone: images (B, 3, H, W) to a dict of features.
        in_features: names of the backbone's features; the last is used.
        in_channels: channels of that feature.
        position_embedding: masks to encodings of `embed_dim` channels.
        transformer: encoder and decoder on one level.
        embed_dim: width of tokens and queries.
        num_queries: anchors; with patterns there are so many times more queries.
        criterion: losses of the decoder layers.
        aux_loss: supervise all decoder layers instead of the last.
        freeze_anchor_box_centers: anchors start with centres spread over the image instead of
            around its middle. The name is detrex's; they train all the same, there and here.

    Raises:
        ValueError: if sizes that must agree do not.
    """

    def __init__(
        self,
        backbone: nn.Module,
        in_features: Sequence[str],
        in_channels: int,
        position_embedding: nn.Module,
        transformer: DABDETRTransformer,
        embed_dim: int,
        num_classes: int,
        num_queries: int,
        criterion: SetCriterion,
        aux_loss: bool = True,
        pixel_mean: Sequence[float] = (123.675, 116.280, 103.530),
        pixel_std: Sequence[float] = (58.395, 57.120, 57.375),
        freeze_anchor_box_centers: bool = True,
        select_box_nums_for_evaluation: int = 300,
        input_format: str = "RGB",
    ):
        super().__init__(
            num_classes, pixel_mean, pixel_std, input_format, select_box_nums_for_evaluation
        )
        decoder_dim = transformer.decoder.embed_dim
        require_equal(
            ("embed_dim", embed_dim, "transformer.encoder.embed_dim", transformer.embed_dim),
            ("embed_dim", embed_dim, "transformer.decoder.embed_dim", decoder_dim),
            ("num_classes", num_classes, "criterion.num_classes", criterion.num_classes),
        )
        self.backbone = backbone
        self.in_features = list(in_features)
        self.position_embedding = position_embedding
        self.input_proj = nn.Conv2d(in_channels, embed_dim, kernel_size=1)
        self.transformer = transformer
        self.embed_dim = embed_dim
        self.num_queries = num_queries
        self.criterion = criterion
        self.aux_loss = aux_loss
        self.anchor_box_embed = nn.Embedding(num_queries, 4)
        if freeze_anchor_box_centers:
            with torch.no_grad():
                centres = torch.rand_like(self.anchor_box_embed.weight[:, :2])
                self.anchor_box_embed.weight[:, :2] = inverse_sigmoid(centres)
        self.class_embed = class_head(embed_dim, num_classes)
        # One box head for all layers; the decoder refines its anchors with it.
        self.bbox_embed = box_head(embed_dim)
        transformer.decoder.bbox_embed = self.bbox_embed

    def losses(self, images: Tensor, mask: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        states, references = self.transform(images, mask)
        first = 0 if self.aux_loss else -1
        return self.criterion(self.apply_heads(states[first:], references[first:]), targets)

    def predictions(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        states, references = self.transform(images, mask)
        last = self.apply_heads(states[-1:], references[-1:])
        return last.logits[0], last.boxes[0]

    def transform(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the decoder's states (E, B, Q, D) and reference boxes (E, B, Q, 4)."""
        features = self.input_proj(self.backbone(images)[self.in_features[-1]])
        (mask,) = level_masks(mask, [features])
        positions = self.position_embedding(mask)
        return self.transformer(features, mask, self.anchor_box_embed.weight, positions)

    def apply_heads(self, states: Tensor, references: Tensor) -> Predictions:
        """Returns class logits and boxes of states (E, B, Q, D) and references (E, B, Q, 4)."""
        boxes = boxes_around(references, self.bbox_embed(states))
        return Predictions(self.class_embed(states), boxes)
