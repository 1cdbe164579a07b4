"""DINO: DETR with denoising, mixed query selection and look-forward-twice."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .base import Detector, Target
from .criterion import DINOCriterion
from .denoising import denoising_queries
from .dino_transformer import DINOTransformer, DINOTransformerOutput
from .layers.boxes import inverse_sigmoid
from .layers.feed_forward import MLP
from .levels import level_masks
from .postprocess import detections
from .predictions import Predictions

PRIOR = 0.01  # class probability before training, RetinaNet (arXiv:1708.02002), section 4.1


class DINO(Detector):
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
        backbone: images (B, 3, H, W) to a dict of features.
        position_embedding: masks to encodings of `embed_dim` channels.
        neck: features to levels of `embed_dim` channels.
        transformer: see `DINOTransformer`.
        embed_dim: width of tokens and queries.
        num_classes: classes K.
        num_queries: matching queries Q.
        criterion: see `DINOCriterion`.
        pixel_mean: see `Detector`.
        pixel_std: see `Detector`.
        aux_loss: supervise all decoder layers instead of the last.
        select_box_nums_for_evaluation: detections per image.
        dn_number: see `denoising_queries`.
        label_noise_ratio: see `denoising_queries`.
        box_noise_scale: see `denoising_queries`.
        input_format: see `Detector`.

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
        super().__init__(num_classes, pixel_mean, pixel_std, input_format)
        for name, value, other, found in (
            ("embed_dim", embed_dim, "transformer.*.embed_dim", transformer.embed_dim),
            ("num_classes", num_classes, "criterion.num_classes", criterion.num_classes),
            (
                "num_queries",
                num_queries,
                "transformer.two_stage_num_proposals",
                transformer.two_stage_num_proposals,
            ),
        ):
            if value != found:
                raise ValueError(f"{name}={value} but {other}={found}; they must be equal")
        self.backbone = backbone
        self.position_embedding = position_embedding
        self.neck = neck
        self.transformer = transformer
        self.embed_dim = embed_dim
        self.num_queries = num_queries
        self.criterion = criterion
        self.aux_loss = aux_loss
        self.select_box_nums_for_evaluation = select_box_nums_for_evaluation
        self.dn_number = dn_number
        self.label_noise_ratio = label_noise_ratio
        self.box_noise_scale = box_noise_scale

        # One head per decoder layer and a last one for the encoder's proposals.
        heads = transformer.decoder.num_layers + 1
        class_head = nn.Linear(embed_dim, num_classes)
        nn.init.constant_(class_head.bias, -math.log((1 - PRIOR) / PRIOR))
        box_head = MLP(embed_dim, embed_dim, 4, 3)
        nn.init.zeros_(box_head.layers[-1].weight)
        nn.init.zeros_(box_head.layers[-1].bias)
        self.class_embed = nn.ModuleList(copy.deepcopy(class_head) for _ in range(heads))
        self.bbox_embed = nn.ModuleList(copy.deepcopy(box_head) for _ in range(heads))
        # The decoder refines its anchors with the same heads; the checkpoints name them twice.
        transformer.decoder.class_embed = self.class_embed
        transformer.decoder.bbox_embed = self.bbox_embed
        self.label_enc = nn.Embedding(num_classes, embed_dim)
        for module in neck.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(
        self, batched_inputs: list[dict[str, Any]]
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Losses in train mode, detections in eval mode.

        Args:
            batched_inputs: detectron2's dicts: "image" (3, H, W) in 0 to 255, of its own size; in
                train mode "instances" with gt_boxes (absolute xyxy of that image) and gt_classes;
                in eval mode "height" and "width" of the original image, by default the image's.

        Returns:
            Train: weighted losses, scalars. Eval: per image {"instances": Instances} in pixels of
            the original image.
        """
        images, mask = self.preprocess_images(batched_inputs)
        targets = self.prepare_targets(batched_inputs) if self.training else None
        features = self.neck(self.backbone(images.tensor))
        masks = level_masks(mask, features)
        positions = [self.position_embedding(level) for level in masks]
        if targets is not None:
            return self.losses(features, masks, positions, targets)
        output = self.transformer(features, masks, positions)
        last = self.predict(output, first_stage=self.transformer.decoder.num_layers - 1)
        sizes = images.image_sizes
        results = detections(
            last.logits[-1],
            last.boxes[-1],
            sizes,
            [
                (entry.get("height", height), entry.get("width", width))
                for entry, (height, width) in zip(batched_inputs, sizes, strict=True)
            ],
            self.select_box_nums_for_evaluation,
        )
        return [{"instances": instances} for instances in results]

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
            output = self.transformer(features, masks, positions)
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
        last = self.transformer.decoder.num_layers - 1
        predictions = self.predict(output, first_stage=0 if self.aux_loss else last)
        losses = self.criterion(
            predictions.queries(slice(num_denoising, None)),
            targets,
            Predictions(output.proposal_logits[None], output.proposal_boxes[None]),
            predictions.queries(slice(0, num_denoising)),
            denoising,
        )
        if denoising is None:
            # A gradient of 0 instead of none: distributed ranks wait for every parameter.
            losses["loss_class_dn"] = losses["loss_class_dn"] + 0 * self.label_enc.weight.sum()
        return losses

    def predict(self, output: DINOTransformerOutput, first_stage: int) -> Predictions:
        """Class logits and boxes of the decoder stages from `first_stage` on."""
        stages = range(first_stage, len(output.states))
        logits = [self.class_embed[stage](output.states[stage]) for stage in stages]
        boxes = [
            (
                self.bbox_embed[stage](output.states[stage])
                + inverse_sigmoid(output.anchors[stage])
            ).sigmoid()
            for stage in stages
        ]
        return Predictions(torch.stack(logits), torch.stack(boxes))
