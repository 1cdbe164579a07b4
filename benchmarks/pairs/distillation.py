"""A distillation step compared with the steps that it consists of."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from detectron2.config import instantiate
from torch import nn

from benchmarks.agreement import same_figures
from benchmarks.measuring import peak_bytes, seconds
from benchmarks.models import (
    build,
    build_trainer,
    detector_config,
    drawn_batch,
    inference,
    losses,
)
from benchmarks.pair import Pair, Sides, Target
from benchmarks.scale import Scale
from projects.clockdistill.configs.models.distill import distill
from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.modeling.adapters import DINOAdapter

MINI_CONFIG = "mini/dino_r18_synthkitti.py"

# Appended queries change the student's own losses by rounding alone.
LOSS_TOLERANCE = 1e-3


def build_distiller(points: int, scale: Scale) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Returns DINO R50 to R18, with so many general and as many specific queries, and a batch."""
    student, teacher = detector_config("dino", 18, scale), detector_config("dino", 50, scale)
    num_points = min(points, scale.most_points)
    model = build(distill(student, teacher, DINOAdapter, num_points=num_points))
    return model, drawn_batch(scale, scale.batch, model.student.num_classes)


def distillation_step(points: int, scale: Scale) -> Callable[[], Any]:
    """Returns the whole step."""
    return build_trainer(*build_distiller(points, scale)).run_step


def student_step(scale: Scale) -> Callable[[], Any]:
    """Returns the student's own training step."""
    model = build(detector_config("dino", 18, scale))
    return build_trainer(model, drawn_batch(scale, scale.batch, model.num_classes)).run_step


def teacher_inference(scale: Scale) -> Callable[[], Any]:
    """Returns the teacher's inference on the same batch."""
    model = build(detector_config("dino", 50, scale))
    return inference(model, drawn_batch(scale, scale.batch, model.num_classes))


def same_student(model: nn.Module, batch: list[dict[str, Any]], student: nn.Module) -> dict:
    """Compares the student's own losses in a distillation step with those of a plain step.

    Raises:
        Disagreement: naming the loss.
    """
    distilled, plain = losses(model, batch), losses(student, batch)
    own = {name: loss for name, loss in distilled.items() if "distill" not in name}
    return {
        "distillation losses": len(distilled) - len(own),
        "losses of its own differ by": same_figures(own, plain, LOSS_TOLERANCE),
    }


def _sides(points: int, unit: str, scale: Scale) -> Sides:
    def measured(work: Callable[[Scale], Callable[[], Any]]) -> Callable[[], float]:
        if unit == "s":
            return seconds(work(scale))
        return peak_bytes(work, scale, with_building=True)

    def check() -> dict[str, Any]:
        model, batch = build_distiller(points, scale)
        return same_student(model, batch, copy.deepcopy(model.student))

    return Sides(
        {"distillation step": measured(partial(distillation_step, points))},
        {"student step": measured(student_step), "teacher inference": measured(teacher_inference)},
        check,
    )


def _mini_sides(scale: Scale) -> Sides:
    model = instantiate(load_config(MINI_CONFIG, []).model)
    student = copy.deepcopy(model.student)
    size = replace(scale, height=96, width=320)  # of synthkitti's images
    batch = drawn_batch(size, scale.mini_batch, student.num_classes)
    return Sides(
        {"distillation step": seconds(build_trainer(model, batch).run_step)},
        {"student step": seconds(build_trainer(student, batch).run_step)},
        partial(same_student, model, batch, student),
    )


def _pair(name: str, what: str, factor: float, points: int, unit: Literal["s", "bytes"]) -> Pair:
    return Pair(
        name,
        what,
        "self",
        "plain student step + teacher inference",
        Target(factor, at_least=False),
        partial(_sides, points, unit),
        unit,
    )


PAIRS = (
    _pair("distillation_300", "distillation step, 300 points of each kind", 1.15, 300, "s"),
    _pair("distillation_900", "distillation step, 900 points of each kind", 1.3, 900, "s"),
    _pair(
        "distillation_memory_300", "memory of a distillation step, 300 points", 1.15, 300, "bytes"
    ),
    _pair(
        "distillation_memory_900", "memory of a distillation step, 900 points", 1.15, 900, "bytes"
    ),
    Pair(
        "mini_distillation",
        "mini distillation step, batch 4, 320 x 96",
        "self",
        "mini student's own step",
        Target(1.5, at_least=False),
        _mini_sides,
    ),
)
