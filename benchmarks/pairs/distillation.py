"""A distillation step compared with the steps that it consists of."""

import copy
from dataclasses import replace
from functools import partial

from omegaconf import DictConfig

from benchmarks.agreement import same_figures
from benchmarks.models import (
    Config,
    build,
    detector_config,
    drawn_batch,
    inference,
    losses,
    training_step,
)
from benchmarks.pair import Build, Pair, Scale
from projects.clockdistill.configs.models.distill import distill
from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.modeling.adapters import DINOAdapter

# Appended queries change the student's own losses by rounding alone.
LOSS_TOLERANCE = 1e-3

student = partial(detector_config, "dino", 18)
teacher = partial(detector_config, "dino", 50)


def distiller(points: int, scale: Scale) -> DictConfig:
    """Returns DINO R50 to R18, with so many general and as many specific queries."""
    points = min(points, scale.queries or points)  # small images have few tokens to choose from
    return distill(student(scale), teacher(scale), DINOAdapter, num_points=points)


def same_student(distiller: Config, scale: Scale) -> dict[str, int]:
    """Compares the student's own losses in a distillation step with those of a plain step."""
    model = build(distiller(scale))
    batch = drawn_batch(scale, scale.batch)
    plain = losses(copy.deepcopy(model.student), batch)
    distilled = losses(model, batch)
    own = {name: loss for name, loss in distilled.items() if "distill" not in name}
    same_figures(own, plain, LOSS_TOLERANCE)
    return {"own losses": len(own), "distillation losses": len(distilled) - len(own)}


def _pair(name: str, what: str, factor: float, points: int) -> Pair:
    return Pair(
        against="self",
        name=f"{name}_{points}",
        what=f"{what}, {points} points of each kind",
        reference="plain student step + teacher inference",
        bound="<=",
        factor=factor,
        ours=partial(training_step, partial(distiller, points)),
        theirs=[partial(training_step, student), partial(inference, teacher, images=2)],
        check=partial(same_student, partial(distiller, points)),
        unit="bytes" if name == "distillation_memory" else "s",
    )


def mini_distiller(scale: Scale) -> DictConfig:
    """Returns the model of the mini config, which has one size only."""
    return load_config("mini/dino_r18_synthkitti.py", []).model


def mini_student(scale: Scale) -> DictConfig:
    return mini_distiller(scale).student


def on_mini_batch(build: Build, scale: Scale) -> object:
    """Builds at the size of synthkitti's images and of the mini configs' batch."""
    return build(replace(scale, height=96, width=320, batch=4))


MINI = Pair(
    against="self",
    name="mini_distillation",
    what="mini distillation step, batch 4, 320 x 96",
    reference="mini student's own step",
    bound="<=",
    factor=1.5,
    ours=partial(on_mini_batch, partial(training_step, mini_distiller)),
    theirs=[partial(on_mini_batch, partial(training_step, mini_student))],
    check=partial(on_mini_batch, partial(same_student, mini_distiller)),
)
PAIRS = (
    _pair("distillation", "distillation step", factor=1.15, points=300),
    _pair("distillation", "distillation step", factor=1.3, points=900),
    _pair("distillation_memory", "memory of a distillation step", factor=1.15, points=300),
    _pair("distillation_memory", "memory of a distillation step", factor=1.15, points=900),
    MINI,
)
