"""Detectors and training steps on the card against the same on the CPU."""

import copy
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from benchmarks.card.measure import precision
from benchmarks.card.report import ROOT
from benchmarks.card.section import Row, Run
from benchmarks.models import FAMILIES, build, build_trainer, detector_config, drawn_batch
from benchmarks.pair import FULL, QUICK, Scale
from benchmarks.pairs.distillation import distiller
from projects.clockdistill.engine.trainer import Trainer
from projects.clockdistill.modeling.detectors.deformable_detr import transformer as deformable
from projects.clockdistill.modeling.detectors.dino import transformer as dino
from projects.clockdistill.modeling.detectors.multi_scale.tokens import choose_tokens

# As tests/modeling/detectors/test_parity.py; its 2e-2 pixels are of images 320 pixels wide. Losses
# and gradient norms are relative.
LIMITS = {"memory": 2e-4, "scores": 2e-4, "boxes": 2e-2 / 320, "losses": 1e-4, "grad norm": 1e-3}
SMALL = replace(QUICK, height=128, width=320, objects=4)
QUARTER = replace(FULL, height=201, width=666)  # DINO chooses 900 of 2,843 tokens
FLOAT16_STEPS = 12  # the scaler may skip the first ones while it lowers its scale
ALLOWED_SYNCS = ("matcher.py", "trainer.py")  # the matching's transfer, the logged scalars'


def correctness(run: Run) -> None:
    """Fills the section; the full size, for which the CPU takes longest, comes last."""
    limits = ", ".join(f"{name} {limit:.2g}" for name, limit in LIMITS.items())
    run.notes.append(f"limits, for TF32 off: {limits} (the last two relative)")
    for family in FAMILIES:
        compare_detector(run, family, "small", QUICK if run.quick else SMALL)
    if run.has_time_for("bfloat16 and float16 steps", 10):
        trainer = half_precision(run, QUICK if run.quick else FULL)
        list_syncs(run, trainer.run_step)
    if run.has_time_for("distillation step", 10):
        compare_distillation(run, QUICK if run.quick else QUARTER)
    for family in () if run.quick else FAMILIES:
        if run.has_time_for(f"{family}, full size", 5):
            compare_detector(run, family, "full", QUARTER)


def compare_detector(run: Run, family: str, size: str, scale: Scale) -> None:
    """Adds the differences of one detector."""
    detector = build(without_denoising(detector_config(family, 18, scale)))
    batch = drawn_batch(scale, 1)

    def outcome(detector: nn.Module) -> dict[str, Any]:
        seen = predictions(detector.eval(), batch)
        return seen | losses_and_gradients(detector, batch)

    expected, found = on_both(outcome, detector, run.device)
    row = run.add(model=f"{family} R18", size=size)
    for name in ("memory", "scores", "boxes"):
        row[name] = (found[name] - expected[name]).abs().max().item()
    add_training(run, row, found, expected)


def compare_distillation(run: Run, scale: Scale) -> None:
    """Adds the differences of one distillation step, DINO R50 to R18."""
    config = distiller(300, scale)
    without_denoising(config.student)
    batch = drawn_batch(scale, 2)
    expected, found = on_both(
        lambda model: losses_and_gradients(model, batch), build(config), run.device
    )
    size = "small" if scale.small_models else "full"
    row = run.add(model="distill R50-R18", size=size, memory=None, scores=None, boxes=None)
    add_training(run, row, found, expected)


def without_denoising(config: DictConfig) -> DictConfig:
    """Switches denoising off: its noise comes from the device's own random numbers."""
    if "dn_number" in config:
        config.dn_number = 0
    return config


def on_both(
    outcome: Callable[[nn.Module], dict[str, Any]], model: nn.Module, device: torch.device
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the outcome on the CPU and on the device.

    The device decodes the tokens that the CPU chose: rounding swaps the ranks of near-equal
    proposals, and each would start from another query.
    """
    on_device = copy.deepcopy(model).to(device)
    chosen: list[Tensor] = []
    with precision("float32", device):
        with choosing(lambda *arguments: _kept(chosen, choose_tokens(*arguments))):
            expected = outcome(model)
        replayed = iter(chosen)
        with choosing(lambda *_: next(replayed).to(device)):
            found = outcome(on_device)
    return expected, found


@contextmanager
def choosing(choose: Callable[..., Tensor]) -> Iterator[None]:
    """Replaces how two-stage transformers choose tokens."""
    with (
        mock.patch.object(dino, "choose_tokens", choose),
        mock.patch.object(deformable, "choose_tokens", choose),
    ):
        yield


def _kept(kept: list[Tensor], tensor: Tensor) -> Tensor:
    kept.append(tensor)
    return tensor


@torch.no_grad()
def predictions(detector: nn.Module, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Returns encoder output, scores and boxes, on the CPU."""
    seen = {}
    handle = detector.transformer.encoder.register_forward_hook(
        lambda module, args, output: seen.update(memory=output.cpu())
    )
    images, mask = detector.preprocess_images(batch)
    logits, boxes = detector.predictions(images.tensor, mask)
    handle.remove()
    return {**seen, "scores": logits.sigmoid().cpu(), "boxes": boxes.cpu()}


def losses_and_gradients(model: nn.Module, batch: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns {"losses": {name: value}, "norm": of all gradients} of a training step."""
    losses = model.train()(batch)
    sum(losses.values()).backward()
    gradients = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    values = {name: loss.item() for name, loss in losses.items()}
    return {"losses": values, "norm": torch.stack(gradients).norm().item()}


def add_training(run: Run, row: Row, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Adds the relative differences of losses and gradient norm, and checks the row."""
    row["losses"] = max(
        abs(found["losses"][name] - value) / max(abs(value), 1e-6)
        for name, value in expected["losses"].items()
    )
    row["grad norm"] = abs(found["norm"] / expected["norm"] - 1)
    within = [row[name] <= limit for name, limit in LIMITS.items() if row[name] is not None]
    run.check(row, all(within))


def half_precision(run: Run, scale: Scale) -> Trainer:
    """Adds distillation steps in bfloat16 and float16; returns the trainer in bfloat16.

    The trainer ends a step whose losses are not finite with an error.
    """
    model = build(distiller(300, scale)).to(run.device)
    batch = drawn_batch(scale, scale.batch)
    trained = next(p for p in model.parameters() if p.requires_grad)
    for dtype in ("float16", "bfloat16"):
        if dtype == "float16" and not run.on_cuda:
            run.notes.append("float16 steps: CUDA only")
            continue
        trainer = build_trainer(model, batch, amp_dtype=dtype)
        before, steps, changed = trained.detach().clone(), 0, False
        while steps < FLOAT16_STEPS and not (changed and steps >= 3):
            trainer.run_step()
            steps += 1
            changed = not torch.equal(before, trained)
        row = run.add(step=f"distillation, {dtype}", steps=steps, finite="yes")
        run.check(row, changed)
    return trainer


def list_syncs(run: Run, step: Callable[[], Any]) -> None:
    """Adds every place where a step waits for the device, and how often."""
    if run.on_cuda:
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("warn")
    try:
        found = places_of_warnings(step, "synchronizing")
    finally:
        if run.on_cuda:
            torch.cuda.set_sync_debug_mode("default")
    if not run.on_cuda:
        run.notes.append("places where a step waits for the device: CUDA only")
    for place, count in found.items():
        row = run.add(waits=place, times=count)
        run.check(row, any(name in place for name in ALLOWED_SYNCS))


def places_of_warnings(work: Callable[[], Any], text: str) -> Counter[str]:
    """Returns the innermost lines of our own code at which work warns of something.

    Args:
        work: runs once.
        text: in the warnings that count.
    """
    found: Counter[str] = Counter()

    def count(message: Warning, category: type, filename: str, lineno: int, *_: Any) -> None:
        if text in str(message):
            ours = [frame for frame in traceback.extract_stack() if _is_named(frame.filename)]
            # a backward pass runs in a thread of torch's, without Python frames
            place = f"{ours[-1].filename}:{ours[-1].lineno}" if ours else f"{filename}:{lineno}"
            found[place.removeprefix(f"{ROOT}/").removeprefix("projects/clockdistill/")] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = count
        work()
    return found


def _is_named(filename: str) -> bool:
    """Returns whether a line is our own; of the functions that move tensors, the caller counts."""
    path = Path(filename)
    return path.is_relative_to(ROOT / "projects") and path.name != "transfers.py"
