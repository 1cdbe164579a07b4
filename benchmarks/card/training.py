"""Training steps of DINO R18: plain, and distilled from DINO R50."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.card.measure import Work, peak_gigabytes, precision, seconds
from benchmarks.card.section import Row, Run
from benchmarks.models import build, build_trainer, drawn_batch
from benchmarks.pair import FULL, QUICK, Scale
from benchmarks.pairs.distillation import distiller

POINTS = (300, 900)
LARGEST_BATCH = 64


def steps(run: Run) -> None:
    """Times the steps, compares the distillation step with its parts, and finds the largest batch.

    Batch 2 is KITTI's: 16 images on 8 GPUs.
    """
    scale = QUICK if run.quick else FULL
    parts: dict[tuple[str, int], Row] = {}
    for points in POINTS[:1] if run.quick else POINTS:
        model = build(distiller(points, scale)).to(run.device)
        for what, batch, work in works(model, points, scale, run):
            if not run.has_time_for(f"{what}, batch {batch}", 4):
                continue
            parts[what, batch] = measure(run, what, batch, work)
        compare(run, parts, points)
        if points == POINTS[0]:
            find_largest_batch(run, model, scale)


def works(
    model: nn.Module, points: int, scale: Scale, run: Run
) -> Iterator[tuple[str, int, dict[str, Work]]]:
    """Yields what is timed: its name, batch, and the work in both precisions."""
    for batch in (2,) if run.quick else (2, 8):
        images = drawn_batch(scale, batch)
        if points == POINTS[0]:
            yield "student step", batch, training(model.student, images, run)
            yield "teacher's pass", batch, teaching(model.teacher, images, run)
        yield f"distillation, {points} points", batch, training(model, images, run)


def training(model: nn.Module, images: list[dict[str, Any]], run: Run) -> dict[str, Work]:
    """Returns the trainer's step."""
    plain, mixed = (build_trainer(model, images, amp) for amp in (None, "bfloat16"))

    def tf32() -> None:
        with precision("tf32", run.device):
            plain.run_step()

    return {"bfloat16": mixed.run_step, "tf32": tf32}


def teaching(model: nn.Module, images: list[dict[str, Any]], run: Run) -> dict[str, Work]:
    """Returns the teacher's pass, images to detections."""

    def work(name: str) -> None:
        with torch.no_grad(), precision(name, run.device):
            model(images)

    return {name: lambda name=name: work(name) for name in ("bfloat16", "tf32")}


def measure(run: Run, what: str, batch: int, work: dict[str, Work]) -> Row:
    """Adds the row of one work."""
    row = run.add(work=what, batch=batch)
    for name, call in work.items():
        row[f"{name}, ms"] = 1e3 * seconds(call, run)
    for name in work:
        row[f"{name}, images/s"] = 1e3 * batch / row[f"{name}, ms"]
    row["peak, GB"] = peak_gigabytes(work["bfloat16"], run)
    return row


def compare(run: Run, parts: dict[tuple[str, int], Row], points: int) -> None:
    """Notes the distillation step's share of student step and teacher's pass together."""
    for batch in (2, 8):
        names = (f"distillation, {points} points", "student step", "teacher's pass")
        if not all((name, batch) in parts for name in names):
            continue
        whole, student, teacher = (parts[name, batch] for name in names)
        for name in ("bfloat16", "tf32"):
            key = f"{name}, ms"
            ratio = whole[key] / (student[key] + teacher[key])
            what = f"distillation / (student + teacher), {points} points, batch {batch}, {name}"
            if points == POINTS[0]:
                run.target(what, ratio, "<=", 1.15)
            else:
                run.notes.append(f"{what}: {ratio:.3g}")


def find_largest_batch(run: Run, model: nn.Module, scale: Scale) -> None:
    """Adds the distillation steps of doubled batches up to the first that does not fit."""
    if not run.on_cuda:
        run.notes.append("largest batch: CUDA only")
    batch, last = (16, LARGEST_BATCH) if run.on_cuda else (2, 2)
    while batch <= last and run.has_time_for(f"distillation, batch {batch}", 8):
        trainer = build_trainer(model, drawn_batch(scale, batch), "bfloat16")
        peak = None
        try:
            peak = peak_gigabytes(trainer.run_step, run)
        except torch.OutOfMemoryError:
            run.notes.append(f"distillation, bfloat16: batch {batch} does not fit")
        if peak is None:
            break
        run.notes.append(f"distillation, bfloat16: batch {batch} fits, {peak:.1f} GB")
        batch *= 2
    model.zero_grad(set_to_none=True)  # of a step that was cut off
    if run.on_cuda:
        torch.cuda.empty_cache()
