"""Adapters of real detrex's detectors: everything in which they differ from ours.

Nothing of detrex is imported; a detector is built from detrex's own lazy config.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from projects.clockdistill.modeling.adapters.base import FamilyAdapter
from projects.clockdistill.modeling.adapters.dab_detr import DABDETRAdapter
from projects.clockdistill.modeling.adapters.deformable_detr import DeformableDETRAdapter
from projects.clockdistill.modeling.adapters.dino import DINOAdapter
from projects.clockdistill.modeling.query_groups import QueryGroup


class DetrexAdapter(FamilyAdapter):
    """What all families of detrex have in common; the adapter of the family knows the rest.

    Source: detrex 0.3.0 (github.com/IDEA-Research/detrex, commit e244e6c).

    Two differences remain where images of a batch differ in size, in training and as a teacher:
    detrex's DAB-DETR decoder also attends to the padding of the memory, and its DINO may choose
    proposals from padding, as long as real tokens score lower than an empty one. Ours do neither.
    """

    def targets(
        self, detector: nn.Module, batched_inputs: list[dict[str, Any]]
    ) -> list[dict[str, Tensor]]:
        """Calls detrex's method, which takes annotations alone, on the detector's device.

        Raises:
            ValueError: if an image comes without annotations.
        """
        for entry in batched_inputs:
            if "instances" not in entry:
                raise ValueError(
                    f'{entry.get("file_name", "image without file_name")}: no "instances" found, '
                    "but training needs annotations. Fix: build the data mapper with is_train=True"
                )
        return detector.prepare_targets(
            [entry["instances"].to(detector.device) for entry in batched_inputs]
        )

    def run(
        self,
        detector: nn.Module,
        batched_inputs: list[dict[str, Any]],
        targets: list[dict[str, Tensor]] | None,
    ) -> Any:
        """Masks padding in eval mode too; detrex's forward prepares its targets itself.

        In eval mode the pass must stop at the decoder, as a teacher's does, and the inputs must
        hold "instances", whose sizes are the images'.
        """
        with nullcontext() if detector.training else _padding_masked(detector):
            return detector(batched_inputs)

    def detect(
        self, detector: nn.Module, batched_inputs: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Runs image by image: in eval mode detrex does not mask the padding of a batch."""
        return [detector([image])[0] for image in batched_inputs]

    def append_queries(
        self, kwargs: dict[str, Any], groups: Sequence[QueryGroup], num_kept: int
    ) -> dict[str, Any]:
        """Gives detrex's attention dense masks over all queries."""
        appended = super().append_queries(kwargs, groups, num_kept)
        blocks, *others = appended["attn_masks"]
        return {
            **appended,
            "attn_masks": [blocks.dense_mask(kwargs["query"].device), *others],
            "query_key_padding_mask": blocks.dense_padding(),
        }


class DetrexDINOAdapter(DetrexAdapter, DINOAdapter):
    """detrex's DINO, whose denoising and criterion move to CUDA whatever the detector's device."""

    def run(
        self,
        detector: nn.Module,
        batched_inputs: list[dict[str, Any]],
        targets: list[dict[str, Tensor]] | None,
    ) -> Any:
        """Keeps a detector that trains on another device than CUDA there."""
        device = next(detector.parameters()).device
        on_own_device = detector.training and device.type != "cuda"
        with _OwnDevice(device) if on_own_device else nullcontext():
            return super().run(detector, batched_inputs, targets)


class DetrexDABDETRAdapter(DetrexAdapter, DABDETRAdapter):
    """detrex's DAB-DETR."""


class DetrexDeformableDETRAdapter(DetrexAdapter, DeformableDETRAdapter):
    """detrex's Deformable-DETR."""


@contextmanager
def _padding_masked(detector: nn.Module) -> Iterator[None]:
    """Lets a detector in eval mode make its masks from the images' sizes, without denoising.

    detrex makes them only where the detector itself is in train mode. Its parts stay in eval mode,
    so dropout and normalisation do too.
    """
    changed = {"training": True}
    if hasattr(detector, "dn_number"):
        changed["dn_number"] = 0
    kept = {name: getattr(detector, name) for name in changed}
    for name, value in changed.items():
        setattr(detector, name, value)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(detector, name, value)


class _OwnDevice(TorchFunctionMode):
    """Redirects every move to a CUDA device to another device.

    Moves to other devices are not changed, nor is anything outside the forward pass. Costs about
    6 microseconds for each of torch's functions that the pass calls.

    Args:
        device: the detector's own.
    """

    def __init__(self, device: torch.device):
        super().__init__()
        self.device = device

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.cuda:
            return args[0].to(self.device)
        if func is Tensor.to:
            args = tuple(map(self._own, args))
            kwargs = {name: self._own(value) for name, value in kwargs.items()}
        return func(*args, **kwargs)

    def _own(self, argument: Any) -> Any:
        names_device = isinstance(argument, (str, torch.device))
        return self.device if names_device and torch.device(argument).type == "cuda" else argument
