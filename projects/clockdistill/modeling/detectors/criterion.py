"""Losses of set prediction: matched queries against objects, all decoder layers at once."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert, sigmoid_focal_loss

from projects.clockdistill.modeling.detectors.base import Target
from projects.clockdistill.modeling.detectors.layers.boxes import generalized_iou
from projects.clockdistill.modeling.detectors.matcher import HungarianMatcher, Matches
from projects.clockdistill.modeling.detectors.normalisers import batch_objects, mean_over_ranks
from projects.clockdistill.modeling.detectors.predictions import Predictions

LOSSES = ("loss_class", "loss_bbox", "loss_giou")


class SetCriterion(nn.Module):
    """Focal class loss, L1 and generalised IoU, for every decoder layer and the encoder.

    Source: DETR (arXiv:2005.12872), section 3.1, with the focal loss of Deformable DETR
    (arXiv:2010.04159), appendix A.4. Sums over queries are divided by the number of objects per
    process, averaged over all processes and at least 1.

    Args:
        num_classes: classes K of the logits.
        matcher: assigns queries to objects, for each layer by itself.
        weight_dict: weight of "loss_class", "loss_bbox" and "loss_giou"; it holds for every layer
            (suffixes `_0`, `_1`, ... for all but the last layer, `_enc`, `_dn`, `_dn_0`, ...).
            A full name gives one loss of one layer a weight of its own.
        alpha: weight of the positives in the focal loss.
        gamma: exponent of the focal loss.

    Raises:
        ValueError: if a base weight is missing or a name belongs to none.
    """

    def __init__(
        self,
        num_classes: int,
        matcher: HungarianMatcher,
        weight_dict: Mapping[str, float],
        alpha: float = 0.25,
        gamma: float = 2.0,
    ):
        super().__init__()
        missing = [name for name in LOSSES if name not in weight_dict]
        unknown = [name for name in weight_dict if not name.startswith(LOSSES)]
        if missing or unknown:
            raise ValueError(
                f"criterion.weight_dict lacks {missing} and has unknown {unknown}; "
                f"it needs {list(LOSSES)}"
            )
        self.num_classes = num_classes
        self.matcher = matcher
        self.weight_dict = dict(weight_dict)
        self.alpha = alpha
        self.gamma = gamma

    def forward(
        self,
        decoder: Predictions,
        targets: Sequence[Target],
        encoder: Predictions | None = None,
    ) -> dict[str, Tensor]:
        """Returns the weighted losses by name.

        Args:
            decoder: matching queries of the decoder layers to supervise, last layer last.
            targets: per image.
            encoder: the proposals of a two-stage encoder, as one layer.

        Returns:
            Scalars. Without any object in the batch the box losses are 0 and keep their graph, so
            that every parameter still receives a gradient.

        Raises:
            FloatingPointError: if a prediction is not finite.
        """
        num_boxes = self.count_boxes(targets, decoder.logits.device)
        return self.matched_losses(decoder, targets, encoder, num_boxes)

    def matched_losses(
        self,
        decoder: Predictions,
        targets: Sequence[Target],
        encoder: Predictions | None,
        num_boxes: Tensor,
    ) -> dict[str, Tensor]:
        """Returns the losses of the queries that the matcher assigns; arguments as in `forward`."""
        groups = [decoder] if encoder is None else [decoder, encoder]
        losses = {}
        for group, matches in zip(groups, self.matcher(groups, targets), strict=True):
            suffixes = layer_suffixes("", decoder) if group is decoder else ["_enc"]
            layer_losses = self.layer_losses(group, matches, targets, num_boxes)
            losses.update(self.weighted(layer_losses, suffixes))
        return losses

    def count_boxes(self, targets: Sequence[Target], device: torch.device) -> Tensor:
        """Counts objects per process, averaged over the processes, at least 1: a scalar.

        Of one of several chunks of a batch: those of the batch, divided by the number of chunks.
        A collective operation: every rank calls it, with objects or without.
        """
        objects, chunks = batch_objects(targets)
        count = torch.full((), float(objects), device=device)
        return mean_over_ranks(count).clamp(min=1) / chunks

    def layer_losses(
        self,
        predictions: Predictions,
        matches: Matches,
        targets: Sequence[Target],
        num_boxes: Tensor,
    ) -> dict[str, Tensor]:
        """Returns the unweighted losses of each layer, in float32 also under autocast.

        Args:
            predictions: E layers.
            matches: for each of the E layers; unmatched queries are background.
            targets: per image.
            num_boxes: scalar that the sums are divided by.

        Returns:
            Per loss (E,).
        """
        with torch.autocast(num_boxes.device.type, enabled=False):
            logits, boxes = predictions.logits.float(), predictions.boxes.float()
            layer = torch.arange(len(logits), device=logits.device)[:, None]
            matched = (layer, matches.image, matches.query)
            labels = torch.cat([t["labels"] for t in targets])[matches.target]
            wanted = torch.cat([t["boxes"] for t in targets])[matches.target]  # (E, M, 4)
            found = boxes[matched]
            classes = torch.zeros_like(logits)
            # A Python number would be copied from the host, which waits for the device.
            classes[(*matched, labels)] = classes.new_ones(())
            focal = sigmoid_focal_loss(logits, classes, self.alpha, self.gamma)
            iou = generalized_iou(
                box_convert(found, "cxcywh", "xyxy"), box_convert(wanted, "cxcywh", "xyxy")
            )
            return {
                "loss_class": focal.sum((1, 2, 3)) / num_boxes,
                "loss_bbox": (found - wanted).abs().sum((1, 2)) / num_boxes,
                "loss_giou": (1 - iou).sum(1) / num_boxes,
            }

    def weighted(
        self, layer_losses: Mapping[str, Tensor], suffixes: Sequence[str]
    ) -> dict[str, Tensor]:
        """Names the layers of each loss (E,) by their suffixes and applies the weights."""
        losses = {}
        for layer, suffix in enumerate(suffixes):
            for name, values in layer_losses.items():
                weight = self.weight_dict.get(name + suffix, self.weight_dict[name])
                losses[name + suffix] = weight * values[layer]
        return losses


def layer_suffixes(kind: str, predictions: Predictions) -> list[str]:
    """Returns the suffixes of the decoder layers' losses: numbered but for the last."""
    return [f"{kind}_{layer}" for layer in range(len(predictions.logits) - 1)] + [kind]
