"""Contrastive denoising: noised annotations as extra queries, in isolated groups; their losses.

The queries of one group are [positive | negative], each padded to the largest number N of objects
in an image of the batch; G groups follow each other, so P = G * 2 * N.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from projects.clockdistill.modeling.detectors.base import Target
from projects.clockdistill.modeling.detectors.criterion import (
    LOSSES,
    SetCriterion,
    layer_suffixes,
)
from projects.clockdistill.modeling.detectors.layers.boxes import inverse_sigmoid
from projects.clockdistill.modeling.detectors.matcher import Matches
from projects.clockdistill.modeling.detectors.predictions import Predictions
from projects.clockdistill.modeling.detectors.transfers import to_device


@dataclass(frozen=True)
class DenoisingQueries:
    """P queries that go before the matching ones, and what they should predict.

    Attributes:
        content: (B, P, D) label embeddings; 0 in slots that hold no object.
        anchors: (B, P, 4) cxcywh in [0, 1]; 0.5 in slots that hold no object.
        attn_mask: (P + Q, P + Q) bool, True = blocked, Q being the matching queries.
        matches: the positive queries and their objects, as of one decoder layer.
        num_groups: G, by which the losses are divided.
    """

    content: Tensor
    anchors: Tensor
    attn_mask: Tensor
    matches: Matches
    num_groups: int


def denoising_queries(
    targets: Sequence[Target],
    label_enc: nn.Embedding,
    num_queries: int,
    dn_number: int,
    label_noise_ratio: float,
    box_noise_scale: float,
) -> DenoisingQueries | None:
    """Draws the denoising queries of one batch from torch's global generator.

    Source: DINO (arXiv:2203.03605), section 3.3. As in the public code the paper's lambda is
    `box_noise_scale`, a label is replaced with probability `label_noise_ratio / 2`, and slots
    without an object take part as background.

    Args:
        targets: per image.
        label_enc: content of each class.
        num_queries: Q, the matching queries that follow.
        dn_number: G = max(dn_number // N, 1); 0 turns denoising off.
        label_noise_ratio: in [0, 2].
        box_noise_scale: corners move by up to this times half the box's side (positive), by one
            to two times that (negative).

    Returns:
        The queries; None if denoising is off or the batch holds no object.
    """
    counts = [len(t["labels"]) for t in targets]
    slots = max(counts, default=0)
    if dn_number <= 0 or slots == 0:
        return None
    groups = max(dn_number // slots, 1)
    labels = torch.cat([t["labels"] for t in targets])
    boxes = torch.cat([t["boxes"] for t in targets])
    device = boxes.device

    noisy_labels = _noisy_labels(
        labels.repeat(2 * groups, 1), label_noise_ratio, label_enc.num_embeddings
    )
    noisy_boxes = _noisy_boxes(boxes.repeat(2 * groups, 1, 1), box_noise_scale)

    # Object k of an image has slot k in each half group.
    image = torch.cat([torch.full((n,), i) for i, n in enumerate(counts)])
    slot = torch.cat([torch.arange(n) for n in counts])
    image, slot = to_device(torch.stack((image, slot)), device)
    half_start = torch.arange(2 * groups, device=device)[:, None] * slots
    query = half_start + slot  # (2G, objects of the batch)
    image = image.expand_as(query)

    size = 2 * groups * slots
    embedded = label_enc(noisy_labels)
    content = embedded.new_zeros(len(targets), size, embedded.shape[-1])
    content[image, query] = embedded
    anchors = boxes.new_full((len(targets), size, 4), 0.5)
    # As far from 0 and 1 as the decoder's own arithmetic keeps anchors.
    anchors[image, query] = inverse_sigmoid(noisy_boxes).sigmoid()

    target = torch.arange(len(labels), device=device).expand(groups, -1)
    positive = slice(0, None, 2)
    matches = Matches(
        *(index.reshape(1, -1) for index in (image[positive], query[positive], target))
    )
    attn_mask = _isolation(groups, 2 * slots, num_queries, device)
    return DenoisingQueries(content, anchors, attn_mask, matches, groups)


def _noisy_labels(labels: Tensor, ratio: float, num_classes: int) -> Tensor:
    """Replaces some labels by any class (also their own), each with probability ratio / 2."""
    if ratio <= 0:
        return labels
    replaced = torch.rand(labels.shape, device=labels.device) < ratio / 2
    return torch.where(replaced, torch.randint_like(labels, num_classes), labels)


def _noisy_boxes(boxes: Tensor, scale: float) -> Tensor:
    """Moves both corners of boxes (2G, M, 4), even rows a little, odd rows further."""
    if scale <= 0:
        return boxes
    sign = torch.randint_like(boxes, 0, 2) * 2 - 1
    distance = torch.rand_like(boxes)
    distance[1::2] += 1
    corners = box_convert(boxes, "cxcywh", "xyxy")
    half_side = boxes[..., 2:].repeat(1, 1, 2) / 2
    corners = (corners + sign * distance * half_side * scale).clamp(0, 1)
    return box_convert(corners, "xyxy", "cxcywh")


def _isolation(groups: int, group_size: int, num_queries: int, device: torch.device) -> Tensor:
    """Returns the mask (P + Q, P + Q) bool, True = blocked.

    A denoising query sees its own group and the matching queries; a matching query sees matching
    queries only, so that no annotation leaks into the predictions.
    """
    matching = torch.full((num_queries,), groups, device=device)
    group = torch.arange(groups, device=device).repeat_interleave(group_size)
    group = torch.cat((group, matching))
    return (group[:, None] != group) & (group != groups)


class DINOCriterion(SetCriterion):
    """Adds the losses of the denoising queries, whose objects are known without matching.

    Source: DINO (arXiv:2203.03605), section 3.3.
    """

    def forward(
        self,
        decoder: Predictions,
        targets: Sequence[Target],
        encoder: Predictions | None = None,
        denoised: Predictions | None = None,
        denoising: DenoisingQueries | None = None,
    ) -> dict[str, Tensor]:
        """Returns the weighted losses by name.

        Args:
            decoder: matching queries of the decoder layers to supervise, last layer last.
            targets: per image.
            encoder: the encoder's proposals, as one layer.
            denoised: the denoising queries of the same layers as `decoder`.
            denoising: what they should predict; None gives losses of 0 under the same names.
        """
        num_boxes = self.count_boxes(targets, decoder.logits.device)
        losses = self.matched_losses(decoder, targets, encoder, num_boxes)
        suffixes = layer_suffixes("_dn", decoder)
        if denoising is None:
            zero = decoder.logits.new_zeros(len(suffixes))
            return losses | self.weighted(dict.fromkeys(LOSSES, zero), suffixes)
        num_boxes = num_boxes * denoising.num_groups
        layer_losses = self.layer_losses(denoised, denoising.matches, targets, num_boxes)
        return losses | self.weighted(layer_losses, suffixes)
