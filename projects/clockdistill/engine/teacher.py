"""Loading of a teacher, and a check that it is better than chance before the first step.

A teacher that was never loaded is the commonest failure of distillation runs, and a silent one:
the losses fall all the same.
"""

import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.structures import Instances
from torch import nn

from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.rng import preserved_rng
from projects.clockdistill.engine.weights import CheckpointError, local_path
from projects.clockdistill.evaluation.coco import (
    box_average_precision,
    load_categories,
    load_ground_truth,
    to_coco_detections,
)

logger = logging.getLogger(__name__)

# A teacher below chance + 5 AP50 is no better than chance: on 8 images one lucky match is worth
# up to a few AP50, while half-trained teachers reach 20 and more.
_MARGIN = 5.0


def load_teacher(
    teacher: nn.Module, checkpoint: str | None, class_names: Sequence[str] | None = None
) -> None:
    """Loads a teacher's weights, which must fit completely.

    Args:
        teacher: the frozen detector.
        checkpoint: `model.teacher_checkpoint`, a path or an address.
        class_names: of the data; None compares no names, as with a `model.class_map`.

    Raises:
        CheckpointError: if there is no such file, a key is missing, unexpected or of another
            shape, or the classes are others.
    """
    key = "model.teacher_checkpoint"
    if not checkpoint:
        raise CheckpointError(
            f"{key} is empty: a student cannot learn from a teacher without weights.\n"
            f"Fix: {_how_to_train('')}"
        )
    try:
        local_path(checkpoint, key)
    except CheckpointError as error:
        if "Fix: " in str(error):
            raise
        raise CheckpointError(f"{error}.\nFix: {_how_to_train(checkpoint)}") from error
    reader = DetectorCheckpointer(teacher)
    try:
        reader.load_exact(checkpoint, key, allow_unexpected=False, class_names=class_names)
    except CheckpointError as error:
        if "class" not in str(error):
            raise
        raise CheckpointError(
            f"{error}, or, for a teacher of other classes, set model.teacher.num_classes to their "
            "number and model.class_map to the teacher's class for each of the student's"
        ) from error


def _how_to_train(checkpoint: str) -> str:
    """Returns the command that writes a file of the default layout output/teachers/<config>/."""
    parts = Path(checkpoint).parts
    config = "teachers/<config>"
    if "output" in parts and "teachers" in parts:
        # output/mini/teachers/x/model_final.pth -> configs/mini/teachers/x.py
        config = "/".join(parts[parts.index("output") + 1 : -1])
    return (
        "train the teacher with python tools/train_net.py --config-file "
        f"projects/clockdistill/configs/{config}.py,\n"
        f"then set model.teacher_checkpoint=output/{config}/model_final.pth, or name another file"
    )


@dataclass(frozen=True)
class TeacherCheck:
    """AP50 in percent of a teacher's detections, and of the same ones on other images' objects."""

    ap50: float
    chance: float
    images: int

    @property
    def passed(self) -> bool:
        """Whether the detections fit their own images better than others."""
        return self.ap50 > self.chance + _MARGIN


def check_teacher(
    detect: Callable[[list[dict[str, Any]]], list[Instances]],
    loader: Iterable[list[dict[str, Any]]],
    dataset_name: str,
    images: int,
) -> TeacherCheck | None:
    """Compares a teacher's detections on a few images with chance, and warns if it is no better.

    Chance is measured: the same detections are compared with the objects of another of the images,
    over all such shifts. This knows where objects usually are, but not what an image shows.

    Args:
        detect: batched inputs -> the teacher's detections, in the dataset's classes.
        loader: batches of test images.
        dataset_name: the loader's dataset.
        images: number of images with objects to use; 0 disables the check.

    Returns:
        None if there was no image to use.
    """
    ground_truth = load_ground_truth(dataset_name)
    annotations = [a for a in ground_truth["annotations"] if not a["iscrowd"]]
    with_objects = {annotation["image_id"] for annotation in annotations}
    with preserved_rng(), torch.no_grad():
        usable = (image for batch in loader for image in batch if image["image_id"] in with_objects)
        chosen = list(itertools.islice(usable, images))
        found = [detect([image])[0] for image in chosen]
    if not chosen:
        return None
    ids = [image["image_id"] for image in chosen]
    truth = {
        "images": [{"id": image_id} for image_id in ids],
        "annotations": [a for a in annotations if a["image_id"] in ids],
    }
    categories = load_categories(dataset_name)
    names = {category: str(category) for category in categories.values()}  # AP50 is over all

    def ap50(shift: int) -> float:
        shifted = ids[shift:] + ids[:shift]
        detections = [
            detection
            for instances, image_id in zip(found, shifted, strict=True)
            for detection in to_coco_detections(instances, image_id, categories)
        ]
        return box_average_precision(truth, detections, names)["AP50"]

    chance = [ap50(shift) for shift in range(1, len(ids))]
    result = TeacherCheck(ap50(0), float(np.mean(chance)) if chance else 0.0, len(ids))
    _log_result(result)
    return result


def _log_result(result: TeacherCheck) -> None:
    figures = (
        f"AP50 {result.ap50:.1f} on {result.images} test images; its detections on other images' "
        f"objects reach {result.chance:.1f}"
    )
    if result.passed:
        logger.info("teacher: %s", figures)
        return
    frame = "!" * 98
    logger.warning(
        "\n%s\nTHE TEACHER IS NO BETTER THAN CHANCE: %s.\nFix: check model.teacher_checkpoint, the "
        "order of the classes and the input's size, colour order and\nnormalisation; "
        "train.teacher_check_images=0 disables this check.\n%s",
        frame,
        figures,
        frame,
    )
