"""DINO: DETR with denoising, mixed query selection and look-forward-twice."""

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.base import Target
from projects.clockdistill.modeling.detectors.criterion import DINOCriterion
from projects.clockdistill.modeling.detectors.dino.denoising import denoising_queries
from projects.clockdistill.modeling.detectors.dino.transformer import DINOTransformer
from projects.clockdistill.modeling.detectors.heads import box_head, class_head
from projects.clockdistill.modeling.detectors.multi_scale.detector import MultiScaleDetector
from projects.clockdistill.modeling.detectors.multi_scale.transformer import TransformerOutput


class DINO(MultiScaleDetector):
    """The detector.

    Source: DINO (arXiv:2203.03605); numbers and state-dict keys equal detrex's DINO.

    Whatever stands in padded cells from the neck's output on never matters, in train and eval
    mode: masks are made from the images' own sizes, padded tokens are neither attended to nor
    chosen as proposals. How much padding there is does matter a little, by the architecture: in
    the backbone it is not zero behind the first normalisation, the neck's GroupNorm counts it, and
    the decoder's position queries are in units of the padded level. Measured with `mini_dino`
    after 2,000 steps on 320 x 96 scenes, 197 detections above 0.3, between an image alone and
    beside one that is 10% wider, 25% wider, and twice as high and wide: boxes move by 0.8, 2.2 and
    3.0 px on average (95th percentile 1.8, 6.0 and 6.9), scores by 0.02, 0.06 and 0.12.

    Args:
        backbone: see `MultiScaleDetector`, as all further ones that are not explained here.
        position_embedding: see there.
        neck: see there.
        transformer: see `DINOTransformer`.
        embed_dim: see there.
        num_classes: see there.
        num_queries: see there.
        criterion: see `DINOCriterion`.
        pixel_mean: see there.
        pixel_std: see there.
        aux_loss: see there.
        select_box_nums_for_evaluation: see there.
        dn_number: see `denoising_queries`.
        label_noise_ratio: see `denoising_queries`.
        box_noise_scale: see `denoising_queries`.
        input_format: see there.

    Raises:
        ValueError: if sizes that must agree do not.
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
            backbone,
            position_embedding,
            neck,
            transformer,
            embed_dim,
            num_classes,
            num_queries,
            criterion,
            pixel_mean,
            pixel_std,
            aux_loss,
            select_box_nums_for_evaluation,
            input_format,
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

    def query(
        self, features: list[Tensor], masks: list[Tensor], positions: list[Tensor]
    ) -> TransformerOutput:
        """See `MultiScaleDetector`."""
        return self.transformer(features, masks, positions)

    def losses(
        self,
        features: list[Tensor],
        masks: list[Tensor],
        positions: list[Tensor],
        targets: list[Target],
    ) -> dict[str, Tensor]:
        """Runs the transformer with denoising queries and compares with the targets."""
        denoising = denoising_queries(
            targets,
            self.label_enc,
            self.num_queries,
            self.dn_number,
            self.label_noise_ratio,
            self.box_noise_scale,
        )
        num_denoising = 0
        if denoising is None:
            output = self.query(features, masks, positions)
        else:
            num_denoising = denoising.content.shape[1]
            output = self.transformer(
                features,
                masks,
                positions,
                denoising.content,
                denoising.anchors,
                denoising.attn_mask,
            )
        predictions = self.predict(output)
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
