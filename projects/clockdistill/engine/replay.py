"""A training step whose losses were not finite: kept in a file, and run again.

The file holds the batch, the weights in training and the generators' states before the step. It
holds no teacher and no pickled code.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from torch import Tensor, nn

from projects.clockdistill.engine.atomic import atomic_write
from projects.clockdistill.engine.rng import get_rng_state, set_rng_state
from projects.clockdistill.modeling.step_random import StepRandom

logger = logging.getLogger(__name__)

FOLDER = "nonfinite"
_TEACHER = "teacher."
_WATCHED = ("NaN", "infinity (a mask may hold some)", "gradient that is not finite")


class StepRecorder:
    """Remembers what a step starts from, and writes it if the step fails.

    Args:
        model: may be wrapped for several processes.
        output_dir: folder of the run; "" writes nothing.
    """

    def __init__(self, model: nn.Module, output_dir: str) -> None:
        self._model = getattr(model, "module", model)
        self._output_dir = output_dir
        self._counters = [m for m in self._model.modules() if isinstance(m, StepRandom)]

    def before_step(self, batch: list[dict[str, Any]], iteration: int) -> None:
        """Remembers a step: weights change at its end alone, so they need no copy."""
        if self._output_dir:
            counts = [counter.count for counter in self._counters]
            self._step = (batch, iteration, get_rng_state(), counts)

    def save(self) -> str:
        """Writes the step that was remembered last.

        Returns:
            How to run it again, for a message; "" if nothing could be written.
        """
        if not self._output_dir:
            return ""
        batch, iteration, rng, counts = self._step
        for counter, count in zip(self._counters, counts, strict=True):
            counter.restart(count)
        name = f"iteration_{iteration:07d}_rank{comm.get_rank()}.pth"
        path = Path(self._output_dir) / FOLDER / name
        content = {
            "batch": [_plain(image) for image in batch],
            "model": {
                key: value
                for key, value in self._model.state_dict().items()
                if not key.startswith(_TEACHER)
            },
            "rng": rng,
            "iteration": iteration,
        }
        try:
            path.parent.mkdir(exist_ok=True)
            with atomic_write(path) as handle:
                torch.save(content, handle)
        except (OSError, RuntimeError) as error:  # the message about the losses matters more
            logger.warning("the step could not be kept for --replay: %s", error)
            return ""
        return f" This step again: tools/train_net.py --config-file ... --replay {path}"


def _plain(image: dict[str, Any]) -> dict[str, Any]:
    """Returns a mapped image as tensors and plain values."""
    plain = {k: v for k, v in image.items() if isinstance(v, Tensor | str | int | float | bool)}
    if "instances" in image:
        instances = image["instances"]
        plain["instances"] = {
            "image_size": list(instances.image_size),
            "gt_boxes": instances.gt_boxes.tensor,
            "gt_classes": instances.gt_classes,
        }
    return plain


def _mapped(plain: dict[str, Any]) -> dict[str, Any]:
    """Returns what `_plain` was given."""
    if "instances" not in plain:
        return plain
    found = plain["instances"]
    instances = Instances(tuple(found["image_size"]))
    instances.gt_boxes = Boxes(found["gt_boxes"])
    instances.gt_classes = found["gt_classes"]
    return {**plain, "instances": instances}


def replay(trainer: Any, content: dict[str, Any]) -> str:
    """Runs a step again and returns a report: its losses, and where they stop being finite.

    Args:
        trainer: of the same config; its model changes.
        content: of a file that `StepRecorder` wrote.
    """
    model = getattr(trainer.model, "module", trainer.model)
    own = {k for k in model.state_dict() if not k.startswith(_TEACHER)}
    missing = own ^ content["model"].keys()
    if missing:
        raise KeyError(", ".join(sorted(missing)[:3]))
    model.load_state_dict(content["model"], strict=False)
    model.train()
    set_rng_state(content["rng"])
    batch = [_mapped(image) for image in content["batch"]]
    losses, error = {}, ""
    with _watched(model) as found:
        try:
            losses = trainer.backward(batch)
        except FloatingPointError as stopped:
            error = str(stopped)
    lines = [f"iteration {content['iteration']}, images:"]
    lines += [f"  {image.get('file_name', image.get('image_id'))}" for image in batch]
    lines += ["losses:", *(f"  {name}: {value.item():.6g}" for name, value in losses.items())]
    lines += [f"  none: {error}"] if error else []
    lines += [f"first {what}: {found.get(what, 'nowhere')}" for what in _WATCHED]
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    bad = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
    lines.append(f"parameters whose gradient is not finite: {len(bad)} of {len(gradients)}")
    return "\n".join([*lines, *(f"  {name}" for name in bad[:10])])


@contextmanager
def _watched(model: nn.Module) -> Iterator[dict[str, str]]:
    """Fills a dict with the module where each kind of value of `_WATCHED` appears first."""
    found: dict[str, str] = {}

    def note(what: str, name: str, tensor: Tensor, bad: Tensor) -> None:
        if what not in found and bad.any():
            shape = tuple(tensor.shape)
            found[what] = f"{name}, {int(bad.sum())} values of an output of shape {shape}"

    def after_forward(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note_gradient(gradient: Tensor) -> None:
            note("gradient that is not finite", name, gradient, ~gradient.isfinite())

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            for tensor in _tensors(output):
                note("NaN", name, tensor, tensor.isnan())
                note("infinity (a mask may hold some)", name, tensor, tensor.isinf())
                if tensor.grad_fn is not None:
                    tensor.register_hook(note_gradient)

        return hook

    handles = [
        module.register_forward_hook(after_forward(f"{name or 'model'} ({type(module).__name__})"))
        for name, module in model.named_modules()
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yields the floating-point tensors in a module's output."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, dict):
        yield from (tensor for value in output.values() for tensor in _tensors(value))
    elif isinstance(output, list | tuple):
        yield from (tensor for value in output for tensor in _tensors(value))
