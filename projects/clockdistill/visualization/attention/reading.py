"""Reads what encoder and decoder look at, by forward hooks that exist for one pass only.

M heads, L levels, P points, S memory tokens.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from projects.clockdistill.errors import UserError
from projects.clockdistill.modeling.adapters import (
    DABDETRAdapter,
    DeformableDETRAdapter,
    DINOAdapter,
)
from projects.clockdistill.modeling.adapters.base import FamilyAdapter
from projects.clockdistill.modeling.detectors.dab_detr.detector import DABDETR
from projects.clockdistill.modeling.detectors.deformable_detr.detector import DeformableDETR
from projects.clockdistill.modeling.detectors.dino.detector import DINO
from projects.clockdistill.modeling.detectors.layers.deformable_attention import DeformableAttention
from projects.clockdistill.modeling.detectors.layers.deformable_sampling import sample_by_grid
from projects.clockdistill.modeling.hooks import DetectorHooks

Part: TypeAlias = Literal["encoder", "decoder"]

_FAMILIES = {
    DINO: ("DINO", DINOAdapter()),
    DABDETR: ("DAB-DETR", DABDETRAdapter()),
    DeformableDETR: ("Deformable-DETR", DeformableDETRAdapter()),
}


@dataclass(frozen=True)
class Attention:
    """What some queries of one layer look at.

    Attributes:
        tokens: (M, S) weight of every memory token, mean over the queries, 0 for padding. A head's
            sum is 1 with dense attention; with deformable attention it is less where points lie
            outside of the memory.
        points: (Q, M, L, P, 2) sampling points as (x, y), [0, 1] being the unpadded image; None
            with dense attention.
        weights: (Q, M, L, P) of the points, sum 1 for each query and head; None with dense
            attention.
    """

    tokens: Tensor
    points: Tensor | None = None
    weights: Tensor | None = None


@dataclass(frozen=True)
class _Call:
    """One call of an attention module."""

    module: nn.Module
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """One image's part of a forward pass.

    Attributes:
        family: name of the detector's family.
        detections: by falling score, as the detector returns them.
        features: per level (D, H_l, W_l), what entered the transformer.
        masks: per level (H_l, W_l) bool, True = padding.
        memory: (S, D).
        calls: of each part, its layers' attention to the memory.
        image: position in the batch.
    """

    family: str
    detections: Instances
    features: Sequence[Tensor]
    masks: Sequence[Tensor]
    memory: Tensor
    calls: dict[Part, list[_Call]]
    image: int

    def num_queries(self, part: Part) -> int:
        """Returns the queries of the decoder, or the tokens of the encoder."""
        return self.calls[part][0].arguments["query"].shape[1]

    def num_heads(self, part: Part) -> int:
        """Returns the heads of a part's attention to the memory."""
        module = self.calls[part][0].module
        return getattr(module, "attn", module).num_heads

    @torch.no_grad()
    def attention(self, part: Part, layer: int, queries: Sequence[int]) -> Attention:
        """Computes what some queries look at, by the layer's own methods.

        Args:
            part: of the decoder the cross-attention; of the encoder the self-attention, whose
                queries are the memory's tokens.
            layer: from 0.
            queries: their indices, at least one.
        """
        call = self.calls[part][layer]
        if isinstance(call.module, DeformableAttention):
            return self._deformable(call, list(queries))
        return self._dense(call, list(queries))

    def _deformable(self, call: _Call, queries: list[int]) -> Attention:
        arguments, one = call.arguments, slice(self.image, self.image + 1)
        shapes = arguments["spatial_shapes"]
        locations, weights = call.module.sampling(
            arguments["query"][one, queries], arguments["reference_points"][one, queries], shapes
        )
        tokens = sampled_tokens(shapes, locations, weights).cpu() / len(queries)
        padding = torch.cat([mask.flatten() for mask in self.masks])
        ratios = [valid_cells(mask) for mask in self.masks]
        scale = locations.new_tensor(
            [
                (mask.shape[1] / columns, mask.shape[0] / rows)
                for mask, (rows, columns) in zip(self.masks, ratios, strict=True)
            ]
        )
        return Attention(
            tokens.masked_fill(padding, 0.0),
            (locations[0] * scale[:, None]).cpu(),
            weights[0].cpu(),
        )

    def _dense(self, call: _Call, queries: list[int]) -> Attention:
        arguments = dict(call.arguments)
        padding = arguments.pop("key_padding_mask", None)
        arguments.pop("attn_mask", None)
        query, key = call.module.queries_and_keys(**arguments)
        query, key = query[self.image][:, queries], key[self.image]  # (M, Q, c), (M, S, c)
        scores = query @ key.transpose(1, 2) * query.shape[-1] ** -0.5
        if padding is not None:
            scores = scores.masked_fill(padding[self.image], float("-inf"))
        return Attention(scores.softmax(-1).mean(1).cpu())


def sampled_tokens(shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """Returns how much each token counts in what deformable attention samples, (M, S).

    That is the gradient of the sampled sum with respect to the values, so that cells are weighted
    as the detector weighs them. torch's operator serves every device, and queries are few.

    Args:
        shapes: (H, W) of each level.
        locations: (1, Q, M, L, P, 2) in units of the levels.
        weights: (1, Q, M, L, P).

    Returns:
        The sum over the queries.
    """
    tokens = sum(height * width for height, width in shapes)
    value = locations.new_zeros(1, tokens, locations.shape[2], 1, requires_grad=True)
    with torch.enable_grad():
        sampled = sample_by_grid(value, shapes, locations, weights).sum()
    (counts,) = torch.autograd.grad(sampled, value)
    return counts[0, :, :, 0].T


def valid_cells(mask: Tensor) -> tuple[int, int]:
    """Returns the rows and columns of a level (H, W) that are not padding."""
    return int((~mask[:, 0]).sum()), int((~mask[0]).sum())


def read(detector: nn.Module, batched_inputs: list[dict[str, Any]], image: int = 0) -> Reading:
    """Runs a detector and reads one image's detections, features, memory and attention.

    Args:
        detector: in eval mode; one of `modeling/detectors`.
        batched_inputs: as the detector takes them.
        image: position in the batch.

    Raises:
        UserError: if the detector is of another class.
    """
    family, adapter = family_of(detector)
    assert not detector.training
    parts = {"encoder": adapter.encoder(detector), "decoder": adapter.decoder(detector)}
    with torch.no_grad(), _recorded(parts) as calls:
        run = DetectorHooks(detector, adapter).run(batched_inputs)
    return Reading(
        family=family,
        detections=run.output[image]["instances"].to("cpu"),
        features=[level[image].cpu() for level in run.features],
        masks=[mask[image].cpu() for mask in run.masks],
        memory=run.memory[image].cpu(),
        calls=calls,
        image=image,
    )


def family_of(detector: nn.Module) -> tuple[str, FamilyAdapter]:
    """Returns name and adapter of a detector's family.

    Raises:
        UserError: if it is none of `modeling/detectors`.
    """
    for kind, family in _FAMILIES.items():
        if isinstance(detector, kind):
            return family
    kind = type(detector)
    raise UserError(
        f"found a detector of {kind.__module__}.{kind.__qualname__}, expected one of this "
        f"project's: {', '.join(name for name, _ in _FAMILIES.values())}.\nFix: name a run of "
        "another config; detrex's weights fit this project's detectors too"
    )


@contextmanager
def _recorded(parts: dict[Part, nn.Module]) -> Iterator[dict[Part, list[_Call]]]:
    """Records the calls of each layer's last attention, which reads the memory."""
    calls: dict[Part, list[_Call]] = {part: [] for part in parts}
    handles = []
    for part, module in parts.items():

        def record(module: nn.Module, args: tuple, kwargs: dict, part: Part = part) -> None:
            bound = inspect.signature(module.forward).bind(*args, **kwargs)
            calls[part].append(_Call(module, dict(bound.arguments)))

        handles += [
            layer.attentions[-1].register_forward_pre_hook(record, with_kwargs=True)
            for layer in module.layers
        ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
