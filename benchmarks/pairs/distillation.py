"""A distillation step beside what it is made of."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

from detectron2.config import instantiate
from torch import nn

from benchmarks.agreement import same_figures
from benchmarks.memory import peak_bytes
from benchmarks.models import inference, losses, stir, tree
from benchmarks.pair import Pair, Sides, Target
from benchmarks.scale import Scale
from benchmarks.scenes import drawn_batch
from benchmarks.timing import seconds
from benchmarks.training import training_step
from projects.clockdistill.configs.models.distill import distill
from projects.clockdistill.engine.config_file import load_config

MINI_CONFIG = "mini/dino_r18_synthkitti.py"
MINI_SIZE = (96, 320)  # of synthkitti's images

# Appended queries change the student's own losses by rounding alone.
LOSS_TOLERANCE = 1e-3


def _distiller(points: int, scale: Scale) -> nn.Module:
    """DINO R18 taught by DINO R50, with so many general and as many specific queries."""
    student, teacher = tree("dino", 18, scale), tree("dino", 50, scale)
    model = instantiate(distill(student, teacher, num_points=min(points, scale.most_points)))
    stir(model.student)
    stir(model.teacher)
    return model


def _batch(model: nn.Module, scale: Scale) -> list[dict[str, Any]]:
    classes = model.num_classes
    return drawn_batch(scale.batch, scale.height, scale.width, scale.objects, classes)


def same_student(model: nn.Module, batch: list[dict[str, Any]], student: nn.Module) -> dict:
    """Compares the student's own losses in a distillation step with those of a plain step.

    Raises:
        Disagreement: naming the loss.
    """
    distilled, plain = losses(model, batch), losses(student, batch)
    own = {name: loss for name, loss in distilled.items() if "distill" not in name}
    return {
        "distillation losses": sum("distill" in name for name in distilled),
        "losses of its own differ by": same_figures(own, plain, LOSS_TOLERANCE),
    }


def _time(points: int, scale: Scale) -> Sides:
    model = _distiller(points, scale)
    student, teacher = copy.deepcopy(model.student), copy.deepcopy(model.teacher)
    batch = _batch(student, scale)
    return Sides(
        {"distillation step": seconds(training_step(model, batch))},
        {
            "student step": seconds(training_step(student, batch)),
            "teacher inference": seconds(inference(teacher, batch)),
        },
        partial(same_student, model, batch, student),
    )


def distillation_step(points: int, scale: Scale) -> Callable[[], Any]:
    """The whole step."""
    model = _distiller(points, scale)
    return training_step(model, _batch(model.student, scale))


def student_step(scale: Scale) -> Callable[[], Any]:
    """The student's own step."""
    model = instantiate(tree("dino", 18, scale))
    stir(model)
    return training_step(model, _batch(model, scale))


def teacher_inference(scale: Scale) -> Callable[[], Any]:
    """The teacher's detections."""
    model = instantiate(tree("dino", 50, scale))
    stir(model)
    return inference(model, _batch(model, scale))


def _memory(points: int, scale: Scale) -> Sides:
    step = partial(distillation_step, points)

    def check() -> dict[str, Any]:
        model = _distiller(points, scale)
        return same_student(model, _batch(model.student, scale), copy.deepcopy(model.student))

    return Sides(
        {"distillation step": peak_bytes(step, scale, with_building=True)},
        {
            "student step": peak_bytes(student_step, scale, with_building=True),
            "teacher inference": peak_bytes(teacher_inference, scale, with_building=True),
        },
        check,
    )


def _mini(teacher_cache_gib: float, scale: Scale) -> Sides:
    cfg = load_config(MINI_CONFIG, [f"model.teacher_cache_gib={teacher_cache_gib}"])
    model = instantiate(cfg.model)
    student = copy.deepcopy(model.student)
    batch = drawn_batch(scale.mini_batch, *MINI_SIZE, scale.objects, student.num_classes)
    return Sides(
        {"distillation step": seconds(training_step(model, batch), calls=5)},
        {"student step": seconds(training_step(student, batch), calls=5)},
        partial(same_student, model, batch, student),
    )


def _pair(name: str, what: str, factor: float, build: Any, unit: Any = "s") -> Pair:
    target = Target(factor, at_least=False)
    reference = "plain student step + teacher inference"
    return Pair(name, what, "self", reference, target, build, unit)


PAIRS = (
    _pair(
        "distillation_300",
        "distillation step, 300 points of each kind",
        1.15,
        partial(_time, 300),
    ),
    _pair(
        "distillation_900",
        "distillation step, 900 points of each kind",
        1.3,
        partial(_time, 900),
    ),
    _pair(
        "distillation_memory_300",
        "memory of a distillation step, 300 points",
        1.15,
        partial(_memory, 300),
        "bytes",
    ),
    _pair(
        "distillation_memory_900",
        "memory of a distillation step, 900 points",
        1.15,
        partial(_memory, 900),
        "bytes",
    ),
    *(
        Pair(
            f"mini_distillation{suffix}",
            f"mini distillation step, batch 4, 320 x 96, {teacher}",
            "self",
            "mini student's own step",
            Target(factor, at_least=False),
            partial(_mini, gib),
        )
        for suffix, teacher, factor, gib in (
            ("", "the teacher asked afresh", 1.5, 0),
            ("_cached", "the teacher knows the images", 1.25, 0.1),
        )
    ),
)
