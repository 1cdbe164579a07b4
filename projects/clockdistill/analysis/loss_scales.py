"""The size of every loss of a distillation run on some batches, and of its gradient.

The model is any `DistillMetaArch`; nothing of it is imported.
"""

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from projects.clockdistill.analysis.spread import Spread

DETECTION = "detection"
PREFIX = "loss_distill_"
SUFFIX = "_unlabelled"  # of the losses of images without labels
MEMORY = f"{PREFIX}memory"
# The memory loss is linear in its token weights, so it is the sum of what each of the two gives.
MEMORY_PARTS = {f"{MEMORY}.foreground": "alpha", f"{MEMORY}.background": "beta"}


@dataclass(frozen=True)
class Sample:
    """One loss on one batch.

    Attributes:
        value: weighted, as it enters the total loss.
        at_memory: norm of its gradient at the student's encoder output; None if the loss does not
            depend on it.
        at_neck: norm of its gradient at the encoder's input, the neck's features, over all levels.
    """

    value: float
    at_memory: float | None
    at_neck: float


@dataclass(frozen=True)
class LossScale:
    """The size of one loss over some batches.

    Attributes:
        name: "detection", "loss_distill_*" or a part of one.
        value: weighted, as it enters the total loss.
        relative: its median divided by the detection loss's.
        at_memory: gradient norm at the student's encoder output; None if the loss does not depend
            on it.
        at_neck: gradient norm at the encoder's input.
        relative_at_neck: its median divided by that of the detection loss's gradient.
    """

    name: str
    value: Spread
    relative: float
    at_memory: Spread | None
    at_neck: Spread
    relative_at_neck: float


def measure(model: nn.Module, batches: Iterable[list[dict[str, Any]]]) -> dict[str, list[Sample]]:
    """Measures every loss on every batch, without training.

    The model runs in train mode, so normalization and dropout work as in training, and random
    numbers come from torch's generator as they would there. Afterwards the model is unchanged: its
    mode, weights, running statistics and counters; no `.grad` is set.

    Args:
        model: a distillation model.
        batches: detectron2's lists of dicts, with annotations.

    Returns:
        One sample per batch: of "detection", the sum of the student's own losses, and of every
        "loss_distill_*"; the memory loss is followed by its two parts.

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


def summarize(samples: Mapping[str, Sequence[Sample]]) -> list[LossScale]:
    """Returns medians and quartiles of what `measure` returned, loss by loss."""
    detection = Spread.of([sample.value for sample in samples[DETECTION]])
    gradient = Spread.of([sample.at_neck for sample in samples[DETECTION]])
    scales = []
    for name, batches in samples.items():
        value = Spread.of([sample.value for sample in batches])
        at_neck = Spread.of([sample.at_neck for sample in batches])
        at_memory = [sample.at_memory for sample in batches]
        scales.append(
            LossScale(
                name=name,
                value=value,
                relative=value.median / detection.median,
                at_memory=None if None in at_memory else Spread.of(at_memory),
                at_neck=at_neck,
                relative_at_neck=at_neck.median / gradient.median,
            )
        )
    return scales


def _measure_batch(model: nn.Module, batch: list[dict[str, Any]]) -> dict[str, Sample]:
    found, calls = _run(model, batch)
    own = [loss for name, loss in found.items() if not name.startswith(PREFIX)]
    losses = {DETECTION: sum(own)}
    for name, loss in found.items():
        if name.startswith(PREFIX):
            losses[name] = loss
        if name == MEMORY:
            losses |= _memory_parts(model, calls)
    read_features = model.student_hooks.adapter.read_features
    samples = {}
    for name, loss in losses.items():
        # the student sees images without labels after the others, in a pass of their own
        last = -1 if name.endswith(SUFFIX) else 0
        (transformer_args, _), (_, memory) = calls["transformer"][last], calls["encoder"][last]
        features, _ = read_features(transformer_args)
        samples[name] = _sample(loss, memory, features)
    bad = [
        name
        for name, sample in samples.items()
        if not all(math.isfinite(figure) for figure in astuple(sample) if figure is not None)
    ]
    if bad:
        files = ", ".join(str(entry.get("file_name", entry.get("image_id"))) for entry in batch)
        raise FloatingPointError(
            f"{', '.join(bad)}: loss or gradient is not finite on the images {files}. Fix: check "
            "these images and boxes, train.init_checkpoint and model.teacher_checkpoint"
        )
    return samples


def _run(
    model: nn.Module, batch: list[dict[str, Any]]
) -> tuple[dict[str, Tensor], dict[str, list[tuple[Any, Any]]]]:
    """Returns the losses of one pass, and arguments and outputs of all calls of some modules in it.

    A transformer has no output: a pass may stop in it.

    The student's tensors are those of its own graph: a transposed view of the memory, for example,
    would not be part of the detection loss's graph.
    """
    calls = defaultdict(list)
    adapter, student = model.student_hooks.adapter, model.student
    modules = {
        "encoder": adapter.encoder(student),
        "token_weights": model.token_weights,
        "memory_loss": model.memory_loss,
    }

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, output: Any = None) -> None:
            calls[name].append((args, output))

        return hook

    with ExitStack() as hooks:
        transformer = adapter.transformer(student)
        hooks.enter_context(transformer.register_forward_pre_hook(keep("transformer")))
        for name, module in modules.items():
            if module is not None:
                hooks.enter_context(module.register_forward_hook(keep(name)))
        return model(batch), calls


def _memory_parts(
    model: nn.Module, calls: Mapping[str, list[tuple[Any, Any]]]
) -> dict[str, Tensor]:
    """Returns the memory loss with each of its token weights alone."""
    ((student, teacher, _), _), (inputs, _) = calls["memory_loss"][0], calls["token_weights"][0]
    parts = {}
    for name, kept in MEMORY_PARTS.items():
        alone = copy.copy(model.token_weights)
        for weight in MEMORY_PARTS.values():
            if weight != kept:
                setattr(alone, weight, 0.0)
        parts[name] = model.memory_loss(student, teacher, alone(*inputs))
    return parts


def _sample(loss: Tensor, memory: Tensor, features: Sequence[Tensor]) -> Sample:
    at_memory, *at_neck = torch.autograd.grad(
        loss, [memory, *features], retain_graph=True, allow_unused=True
    )
    norms = [level.float().norm().item() for level in at_neck if level is not None]
    return Sample(
        value=loss.item(),
        at_memory=None if at_memory is None else at_memory.float().norm().item(),
        at_neck=math.hypot(*norms),
    )
