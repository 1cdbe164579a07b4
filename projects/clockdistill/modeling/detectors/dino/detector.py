"""DINO: DETR with denoising, mixed query selection and look-forward-twice."""

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.base import Target
from projects.clockdistill.modeling.detectors.dino.denoising import (
    DINOCriterion,
    denoising_queries,
)
from projects.clockdistill.modeling.detectors.dino.transformer import DINOTransformer
from projects.clockdistill.modeling.detectors.multi_scale.detector import MultiScaleDetector
from projects.clockdistill.modeling.detectors.multi_scale.transformer import TransformerOutput
from projects.clockdistill.modeling.detectors.predictions import box_head, class_head


class DINO(MultiScaleDetector):
    """DINO; numbers and state-dict keys equal detrex's.

    Source: DINO (arXiv:2203.03605).

    The values in padded cells from the neck's output on never matter, in train and eval mode: masks
    are made from the images' own sizes, padded tokens are neither attended to nor chosen as
    proposals. The amount of padding matters a little, by the architecture: in the backbone it is
    not zero behind the first normalisation, the neck's GroupNorm counts it, and the decoder's
    position queries are in units of the padded level. Measured with `mini_dino` after 2,000 steps
    on 320 x 96 scenes, 197 detections above 0.3, between an image alone and in a batch with one
    that is 10% wider, 25% wider, and twice as high and wide: boxes move by 0.8, 2.2 and 3.0 px on
    average (95th percentile 1.8, 6.0 and 6.9), scores by 0.02, 0.06 and 0.12.

    Arguments that are not listed are those of `MultiScaleDetector`.

    Args:
        dn_number: denoising queries; 0 turns denoising off.
        label_noise_ratio: in [0, 2]; half of it is the probability of another label.
        box_noise_scale: how far denoising moves corners, in halves of a box's side.
    """

    def __init__(
        self,
        backbone: nn.Module,
        position_embedding: nn.Module,
        neck: nn.Module,
        transformer: DINOTransformer,
        embed_dim: int,
        num_classes: int,
        num_queries: int,
        criterion: DINOCriterion,
        pixel_mean: Sequence[float] = (123.675, 116.280, 103.530),
        pixel_std: Sequence[float] = (58.395, 57.120, 57.375),
        aux_loss: bool = True,
        select_box_nums_for_evaluation: int = 300,
        dn_number: int = 100,
        label_noise_ratio: float = 0.2,
        box_noise_scale: float = 1.0,
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
        self.dn_number = dn_number
        self.label_noise_ratio = label_noise_ratio
        self.box_noise_scale = box_noise_scale

        # One head per decoder layer and a last one for the encoder's proposals.
        heads = transformer.decoder.num_layers + 1
        first_class_head, first_box_head = class_head(embed_dim, num_classes), box_head(embed_dim)
        self.class_embed = nn.ModuleList(copy.deepcopy(first_class_head) for _ in range(heads))
        self.bbox_embed = nn.ModuleList(copy.deepcopy(first_box_head) for _ in range(heads))
        # The decoder refines its anchors with the same heads; the checkpoints name them twice.
        transformer.decoder.class_embed = self.class_embed
        transformer.decoder.bbox_embed = self.bbox_embed
        self.label_enc = nn.Embedding(num_classes, embed_dim)
        self.init_neck()

    def transform(
        self, features: list[Tensor], masks: list[Tensor], positions: list[Tensor]
    ) -> TransformerOutput:
        return self.transformer(features, masks, positions)

    def losses(self, images: Tensor, mask: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Adds the denoising queries and their losses."""
        features, masks, positions = self.levels(images, mask)
        denoising = denoising_queries(
            targets,
            self.label_enc,
            self.num_queries,
            self.dn_number,
            self.label_noise_ratio,
            self.box_noise_scale,
        )
        output = self.transformer(features, masks, positions, denoising)
        predictions = self.apply_heads(output, last_only=not self.aux_loss)
        num_denoising = 0 if denoising is None else denoising.content.shape[1]
        losses = self.criterion(
            predictions.queries(slice(num_denoising, None)),
            targets,
            output.proposals,
            predictions.queries(slice(0, num_denoising)),
            denoising,
        )
        if denoising is None:
            # A gradient of 0 instead of none: distributed ranks wait for every parameter.
            losses["loss_class_dn"] = losses["loss_class_dn"] + 0 * self.label_enc.weight.sum()
        return losses
