"""Every loss of a distillation run on some batches, and how hard it pulls at the student.

The model is any `DistillMetaArch`; nothing of it is imported.
"""

import copy
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

DETECTION = "detection"
PREFIX = "loss_distill_"
MEMORY = f"{PREFIX}memory"
# The memory loss is linear in its token weights, so it is the sum of what each of the two gives.
MEMORY_PARTS = {f"{MEMORY}.foreground": "alpha", f"{MEMORY}.background": "beta"}


@dataclass(frozen=True)
class Sample:
    """One loss on one batch.

    Attributes:
        value: weighted, as it enters the total loss.
        at_memory: norm of its gradient at the student's encoder output; None if the loss does not
            come from there.
        at_neck: norm of its gradient at the encoder's input, the neck's features, over all levels.
    """

    value: float
    at_memory: float | None
    at_neck: float

    @property
    def is_finite(self) -> bool:
        """Whether the loss and its gradients are."""
        figures = (self.value, self.at_memory, self.at_neck)
        return all(math.isfinite(figure) for figure in figures if figure is not None)


@dataclass
class _Seen:
    """What one forward pass of the model shows on the way."""

    features: Sequence[Tensor] = ()
    memory: Tensor | None = None
    token_weights_args: tuple[Any, ...] = ()
    memory_loss_args: tuple[Any, ...] = ()


def measure(model: nn.Module, batches: Iterable[list[dict[str, Any]]]) -> dict[str, list[Sample]]:
    """Measures every loss on every batch, without training.

    The model runs in train mode, so normalisation and dropout do what they do in training, and its
    draws follow torch's generator as they would there. Afterwards it is what it was: mode, weights,
    running statistics, counters; no `.grad` is touched.

    Args:
        model: a distillation model.
        batches: detectron2's lists of dicts, with annotations.

    Returns:
        One sample a batch: of "detection", the sum of the student's own losses, then of every
        "loss_distill_*", the memory loss being followed by its two parts.

    Raises:
        FloatingPointError: if a loss or its gradient is not finite.
    """
    kept, mode = copy.deepcopy(model.state_dict()), model.training
    samples = defaultdict(list)
    try:
        model.train()
        for batch in batches:
            for name, sample in _measure_batch(model, batch).items():
                samples[name].append(sample)
    finally:
        model.load_state_dict(kept)
        model.train(mode)
    return dict(samples)


def _measure_batch(model: nn.Module, batch: list[dict[str, Any]]) -> dict[str, Sample]:
    with _watched(model) as seen:
        own = model(batch)
    distilled = {name: own.pop(name) for name in list(own) if name.startswith(PREFIX)}
    losses = {DETECTION: sum(own.values())}
    for name, loss in distilled.items():
        losses[name] = loss
        if name == MEMORY:
            losses |= _memory_parts(model, seen)
    samples = {name: _sample(loss, seen) for name, loss in losses.items()}
    bad = [name for name, sample in samples.items() if not sample.is_finite]
    if bad:
        files = ", ".join(str(entry.get("file_name", entry.get("image_id"))) for entry in batch)
        raise FloatingPointError(
            f"{', '.join(bad)}: loss or gradient is not finite on the images {files}; look at "
            "these images and boxes, and at train.init_checkpoint and model.teacher_checkpoint"
        )
    return samples


@contextmanager
def _watched(model: nn.Module) -> Iterator[_Seen]:
    """Forward hooks for one pass, on what the student's encoder and the memory loss are given.

    The tensors are kept as they flow through the student: a transposed view of the memory, say,
    would be no part of the detection loss's graph.
    """
    seen = _Seen()
    adapter, student = model.student_hooks.adapter, model.student

    def enter_transformer(module: nn.Module, args: tuple[Any, ...]) -> None:
        seen.features = adapter.read_features(args)[0]

    def leave_encoder(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        seen.memory = output

    def enter_token_weights(module: nn.Module, args: tuple[Any, ...]) -> None:
        seen.token_weights_args = args

    def enter_memory_loss(module: nn.Module, args: tuple[Any, ...]) -> None:
        seen.memory_loss_args = args

    handles = [
        adapter.transformer(student).register_forward_pre_hook(enter_transformer),
        adapter.encoder(student).register_forward_hook(leave_encoder),
        model.token_weights.register_forward_pre_hook(enter_token_weights),
    ]
    if model.memory_loss is not None:
        handles.append(model.memory_loss.register_forward_pre_hook(enter_memory_loss))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _memory_parts(model: nn.Module, seen: _Seen) -> dict[str, Tensor]:
    """The memory loss as it is with each of its weights alone."""
    student, teacher, _ = seen.memory_loss_args
    parts = {}
    for name, kept in MEMORY_PARTS.items():
        alone = copy.copy(model.token_weights)
        for weight in MEMORY_PARTS.values():
            if weight != kept:
                setattr(alone, weight, 0.0)
        parts[name] = model.memory_loss(student, teacher, alone(*seen.token_weights_args))
    return parts


def _sample(loss: Tensor, seen: _Seen) -> Sample:
    at_memory, *at_neck = torch.autograd.grad(
        loss, [seen.memory, *seen.features], retain_graph=True, allow_unused=True
    )
    return Sample(
        value=loss.item(),
        at_memory=None if at_memory is None else at_memory.float().norm().item(),
        at_neck=math.hypot(
            *(level.float().norm().item() for level in at_neck if level is not None)
        ),
    )
