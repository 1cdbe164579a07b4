"""A run's detections, compared with the objects of its test data."""

import json
import logging
import math
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from omegaconf import DictConfig, ListConfig

import projects.clockdistill.data  # noqa: F401  registers the datasets
from projects.clockdistill.errors import UserError
from projects.clockdistill.evaluation.coco import (
    load_categories,
    load_ground_truth,
    without_images,
)
from projects.clockdistill.evaluation.diagnosis import (
    Diagnosis,
    ImageErrors,
    diagnose,
    errors_by_image,
)
from projects.clockdistill.report.run import DETECTIONS, Run

_SAME = 1e-6  # percent


@dataclass(frozen=True)
class Image:
    """One image of the test data and what was detected in it.

    Attributes:
        file: its path.
        size: (width, height) in pixels, as annotated.
        errors: what is right and wrong.
        crowds: annotations in which detections are ignored.
    """

    file: Path
    size: tuple[int, int]
    errors: ImageErrors
    crowds: list[dict]


@dataclass(frozen=True)
class Evaluated:
    """What a run's detections show.

    Attributes:
        class_names: category id -> name.
        diagnosis: of all images.
        images: number of images.
        worst: the images with most errors, the worst first.
        warning: in words, if the figures are not those of results.json.
    """

    class_names: dict[Any, str]
    diagnosis: Diagnosis
    images: int
    worst: list[Image]
    warning: str


def evaluate_detections(run: Run, worst: int) -> Evaluated:
    """Reads a run's detections and the test data, and compares them.

    Args:
        run: with detections from its last evaluation.
        worst: number of images to return.

    Raises:
        UserError: if there are no detections or the test data cannot be read.
    """
    path = run.folder / DETECTIONS
    if not path.is_file():
        raise UserError(f"there is no {DETECTIONS}: the run was not evaluated with COCO's AP")
    node = _coco_evaluator(run)
    if node is None:
        raise UserError("the config has no CocoEvaluator")
    with _quiet_loader():
        records = {record["image_id"]: record for record in _records(run)}
    name = str(node.dataset_name)
    ground_truth = without_images(load_ground_truth(name), node.get("left_out") or ())
    classes = MetadataCatalog.get(name).thing_classes
    class_names = {category: classes[label] for label, category in load_categories(name).items()}
    detections = json.loads(path.read_text())
    diagnosis = diagnose(ground_truth, detections, class_names)
    by_image = {}
    if worst:
        by_image = errors_by_image(ground_truth, detections, class_names, diagnosis.threshold)
    ranked = sorted(
        (id_ for id_, errors in by_image.items() if errors.count and id_ in records),
        key=lambda id_: (-by_image[id_].count, len(by_image[id_].hits), str(id_)),
    )[:worst]
    images = [
        Image(
            Path(records[id_]["file_name"]),
            (records[id_]["width"], records[id_]["height"]),
            by_image[id_],
            [
                annotation
                for annotation in ground_truth["annotations"]
                if annotation["image_id"] == id_ and annotation["iscrowd"]
            ],
        )
        for id_ in ranked
    ]
    warning = _difference(run, diagnosis)
    return Evaluated(class_names, diagnosis, len(ground_truth["images"]), images, warning)


def _coco_evaluator(run: Run) -> DictConfig | None:
    """Returns the config's evaluator whose detections the run keeps."""
    node = run.select("dataloader.evaluator")
    nodes = list(node) if isinstance(node, ListConfig) else [node]
    for one in nodes:
        if isinstance(one, DictConfig) and str(one.get("_target_")).endswith(".CocoEvaluator"):
            return one
    return None


def _records(run: Run) -> list[dict]:
    """Returns the dicts of the test data, which this also registers."""
    try:
        return instantiate(run.cfg.dataloader.test.dataset)
    except (OSError, AssertionError, LookupError, ValueError) as error:
        # detectron2 lists all datasets where one is not registered
        words = textwrap.shorten(str(error), 120, placeholder=" ...")
        raise UserError(f"the test data cannot be read: {words}") from error


@contextmanager
def _quiet_loader() -> Iterator[None]:
    """Silences detectron2's table of the data."""
    logger = logging.getLogger("detectron2")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _difference(run: Run, diagnosis: Diagnosis) -> str:
    """Returns a warning if AP is not that of results.json, for the data or weights changed."""
    known, found = run.metrics.get("AP"), diagnosis.metrics["AP"]
    if known is None and math.isnan(found):
        return ""
    if known is not None and math.isclose(known, found, rel_tol=0, abs_tol=_SAME):
        return ""
    known = "none" if known is None else f"{known:.2f}"
    return (
        f"AP in results.json is {known}; from the kept detections it is {found:.2f}. The test data "
        "changed since the evaluation, or images that cannot be read were left out of it."
    )
