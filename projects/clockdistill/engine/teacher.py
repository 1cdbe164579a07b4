"""A teacher must be really loaded, and must be worth listening to, before the first step.

A teacher that was never loaded is the commonest failure of distillation runs, and a silent one:
the losses fall all the same.
"""

import itertools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode, Instances
from torch import nn

from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.rng import preserved_rng
from projects.clockdistill.engine.weights import CheckpointError, local_path
from projects.clockdistill.evaluation.coco import box_average_precision, to_coco_detections

logger = logging.getLogger(__name__)

# A teacher below chance + 5 AP50 is no better than chance: on 8 images one lucky match is worth
# up to a few AP50, while half-trained teachers reach 20 and more.
_MARGIN = 5.0


def load_teacher(teacher: nn.Module, checkpoint: str | None, *, allow_pickle: bool) -> None:
    """Load a teacher's weights, whole or not at all.

    Args:
        teacher: the frozen detector.
        checkpoint: model.teacher_checkpoint: a path or an address.
        allow_pickle: whether a file that needs pickled code may be loaded.

    Raises:
        CheckpointError: if there is no such file, or a key is missing, left over or of another
            shape; with the list and the mend.
    """
    key = "model.teacher_checkpoint"
    if not checkpoint:
        raise CheckpointError(
            f"{key} is empty: a student cannot learn from a teacher without weights. Train one "
            "with python tools/train_net.py --config-file projects/clockdistill/configs/teachers/"
            "<config>.py, then set "
            f"{key}=output/teachers/<config>/model_final.pth"
        )
    try:
        local_path(checkpoint, key)
    except CheckpointError as error:
        raise CheckpointError(f"{error}. {_how_to_train(checkpoint)}") from error
    reader = DetectorCheckpointer(teacher, allow_pickle=allow_pickle)
    reader.load_exact(checkpoint, key, allow_unexpected=False)


def _how_to_train(checkpoint: str) -> str:
    """Name the command that writes a file of the default layout output/teachers/<config>/."""
    parts = Path(checkpoint).parts
    config = "teachers/<config>"
    if "output" in parts and "teachers" in parts:
        # output/mini/teachers/x/model_final.pth -> configs/mini/teachers/x.py
        config = "/".join(parts[parts.index("output") + 1 : -1])
    return (
        "Train the teacher first: python tools/train_net.py --config-file "
        f"projects/clockdistill/configs/{config}.py; or name another file with "
        "model.teacher_checkpoint=PATH"
    )


@dataclass(frozen=True)
class TeacherCheck:
    """AP50 in percent of a teacher's detections, and of the same ones on other images' objects."""

    ap50: float
    chance: float
    images: int

    @property
    def passed(self) -> bool:
        """Whether the detections say anything about their own images."""
        return self.ap50 > self.chance + _MARGIN


def check_teacher(
    detect: Callable[[list[dict[str, Any]]], list[Instances]],
    loader: Iterable[list[dict[str, Any]]],
    dataset_names: list[str],
    images: int,
) -> TeacherCheck | None:
    """Compare a teacher's detections on a few images with chance, and warn if it is no better.

    Chance is measured, not assumed: the same detections against the objects of another of the
    images, over all such shifts. It knows where objects tend to be, but not what is to be seen.

    Args:
        detect: batched inputs to the teacher's detections, in the datasets' classes.
        loader: batches of test images.
        dataset_names: the datasets of the loader, for their objects.
        images: number of images with objects to look at; 0 looks at none.

    Returns:
        None if nothing was looked at.
    """
    truth = _objects_by_image(dataset_names)
    with preserved_rng(), torch.no_grad():
        chosen = _images_with_objects(loader, truth, images)
        found = [detect([image])[0] for image in chosen]
    if not chosen:
        return None
    objects = [truth[image["image_id"]] for image in chosen]
    classes = list(MetadataCatalog.get(dataset_names[0]).thing_classes)
    shifted = [
        _ap50(found, objects[shift:] + objects[:shift], classes) for shift in range(1, len(chosen))
    ]
    result = TeacherCheck(
        ap50=_ap50(found, objects, classes),
        chance=float(np.mean(shifted)) if shifted else 0.0,
        images=len(chosen),
    )
    _report(result)
    return result


def _report(result: TeacherCheck) -> None:
    figures = (
        f"AP50 {result.ap50:.1f} on {result.images} test images; its detections on other images' "
        f"objects reach {result.chance:.1f}"
    )
    if result.passed:
        logger.info("teacher: %s", figures)
        return
    frame = "!" * 98
    logger.warning(
        "\n%s\nTHE TEACHER IS NO BETTER THAN CHANCE: %s.\nA student cannot learn from it. Look at "
        "model.teacher_checkpoint, at the order of the classes and at the input's size,\ncolour "
        "order and normalisation; train.teacher_check_images=0 turns this check off.\n%s",
        frame,
        figures,
        frame,
    )


def _objects_by_image(dataset_names: list[str]) -> dict[Any, list[dict[str, Any]]]:
    """Return the annotations of every image that has any beside crowds."""
    objects = {}
    for record in itertools.chain.from_iterable(DatasetCatalog.get(n) for n in dataset_names):
        kept = [a for a in record.get("annotations", ()) if not a.get("iscrowd", 0)]
        if kept:
            objects[record["image_id"]] = kept
    return objects


def _images_with_objects(
    loader: Iterable[list[dict[str, Any]]], truth: dict[Any, Any], count: int
) -> list[dict[str, Any]]:
    chosen: list[dict[str, Any]] = []
    if count < 1:
        return chosen
    for batch in loader:
        chosen += [image for image in batch if image["image_id"] in truth]
        if len(chosen) >= count:
            break
    return chosen[:count]


def _ap50(found: list[Any], objects: list[list[dict[str, Any]]], classes: list[str]) -> float:
    """Return the AP50 of the i-th detections against the i-th objects."""
    images = [{"id": index} for index in range(len(found))]
    annotations = []
    for index, image_objects in enumerate(objects):
        for annotation in image_objects:
            mode = annotation["bbox_mode"]
            box = BoxMode.convert(list(annotation["bbox"]), mode, BoxMode.XYWH_ABS)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": annotation["category_id"],
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    same = {label: label for label in range(len(classes))}
    detections = []
    for index, instances in enumerate(found):
        detections += to_coco_detections(instances, index, same)
    ground_truth = {"images": images, "annotations": annotations}
    return box_average_precision(ground_truth, detections, dict(enumerate(classes)))["AP50"]
