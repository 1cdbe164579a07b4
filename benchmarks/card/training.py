"""Training steps of DINO R18: plain, and distilled from DINO R50."""

import copy
import gc
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.card.measure import Work, peak_gigabytes, precision, seconds
from benchmarks.card.section import Row, Run
from benchmarks.models import build, build_trainer, drawn_batch
from benchmarks.pair import FULL, QUICK, Scale
from benchmarks.pairs.distillation import distiller
from projects.clockdistill.engine.compile import compile_model
from projects.clockdistill.engine.half_weights import store_weights

POINTS = (300, 900)
LARGEST_BATCH = 64
PRECISIONS = ("bfloat16", "tf32")

Prepare = Callable[[str], Work]  # of one of `PRECISIONS`


def steps(run: Run) -> None:
    """Times the steps, compares the distillation step with its parts, and finds the largest batch.

    Batch 2 is KITTI's: 16 images on 8 GPUs.
    """
    scale = QUICK if run.quick else FULL
    parts: dict[tuple[str, int], Row] = {}
    for points in POINTS[:1] if run.quick else POINTS:
        model = build(distiller(points, scale)).to(run.device)
        models = {"tf32": model, "bfloat16": copy.deepcopy(model)}
        store_weights(models["bfloat16"].teacher, torch.bfloat16)  # as tools/train_net.py does
        for what, batch, prepare in works(models, points, scale, run):
            if run.has_time_for(f"{what}, batch {batch}", 4):
                parts[what, batch] = measure(run, what, batch, prepare)
        compare(run, parts, points)
        if points == POINTS[0]:
            find_largest_batch(run, models["bfloat16"], scale)


def compiled(run: Run) -> None:
    """Times the steps of compiled layers; compiling cannot be interrupted."""
    scale = QUICK if run.quick else FULL
    model = build(distiller(POINTS[0], scale)).to(run.device)
    store_weights(model.teacher, torch.bfloat16)
    # "eager" traces the same graphs and needs no compiler
    compile_model(model, "eager" if run.quick else "inductor")
    for batch in (2,) if run.quick else (8, 2):
        images = drawn_batch(scale, batch)
        for what, part in (("distillation, 300 points", model), ("student step", model.student)):
            if not run.has_time_for(f"{what}, batch {batch}", 0 if run.quick else 20):
                continue
            trainer = build_trainer(part, images, "bfloat16")
            start = time.monotonic()
            trainer.run_step()
            first = time.monotonic() - start
            step = seconds(trainer.run_step, run)
            run.add(work=what, batch=batch, first_s=first, step_ms=1e3 * step, per_s=batch / step)


def works(
    models: dict[str, nn.Module], points: int, scale: Scale, run: Run
) -> Iterator[tuple[str, int, Prepare]]:
    """Yields what is timed: its name, batch, and what prepares it in a precision."""
    students = {name: model.student for name, model in models.items()}
    teachers = {name: model.teacher for name, model in models.items()}
    for batch in (2,) if run.quick else (2, 8):
        images = drawn_batch(scale, batch)
        if points == POINTS[0]:
            yield "student step", batch, partial(training, students, images, run)
            yield "teacher's pass", batch, partial(teaching, teachers, images, run)
        yield f"distillation, {points} points", batch, partial(training, models, images, run)


def training(
    models: dict[str, nn.Module], images: list[dict[str, Any]], run: Run, name: str
) -> Work:
    """Returns the trainer's step."""
    trainer = build_trainer(models[name], images, "bfloat16" if name == "bfloat16" else None)

    def work() -> None:
        with precision("tf32", run.device):  # the trainer itself enters autocast
            trainer.run_step()

    return work


def teaching(
    models: dict[str, nn.Module], images: list[dict[str, Any]], run: Run, name: str
) -> Work:
    """Returns the teacher's pass, images to detections."""

    def work() -> None:
        with torch.no_grad(), precision(name, run.device):
            models[name](images)

    return work


def measure(run: Run, what: str, batch: int, prepare: Prepare) -> Row:
    """Adds the row of one work; the peak is that in bfloat16."""
    row = run.add(work=what, batch=batch, **dict.fromkeys(f"{name}, ms" for name in PRECISIONS))
    peak = None
    for name in PRECISIONS:
        work = prepare(name)
        row[f"{name}, ms"] = 1e3 * seconds(work, run)
        row[f"{name}, img/s"] = 1e3 * batch / row[f"{name}, ms"]
        if name == "bfloat16":
            peak = peak_gigabytes(work, run)
        del work  # with the optimizer's state
        gc.collect()
    row["peak, GB"] = peak
    return row


def compare(run: Run, parts: dict[tuple[str, int], Row], points: int) -> None:
    """Notes the distillation step's share of student step and teacher's pass together."""
    for batch in (2, 8):
        names = (f"distillation, {points} points", "student step", "teacher's pass")
        if not all((name, batch) in parts for name in names):
            continue
        whole, student, teacher = (parts[name, batch] for name in names)
        for name in PRECISIONS:
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
