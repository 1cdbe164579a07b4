"""KITTI's own 2D average precision: easy, moderate and hard, at 40 and at 11 points of recall.

`kitti_rules.py` holds the rules and their source.
"""

import logging
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from projects.clockdistill.data.findings import some
from projects.clockdistill.data.kitti_presets import KittiPreset
from projects.clockdistill.data.kitti_tree import KittiFrame
from projects.clockdistill.errors import UserError
from projects.clockdistill.evaluation.kitti_rules import (
    DIFFICULTIES,
    DONT_CARE,
    MIN_OVERLAPS,
    RECALLS,
    Detections,
    GroundTruth,
    average_precisions,
    find_overlaps,
    is_counted,
    recall_precisions,
)

logger = logging.getLogger(__name__)

_FIX = "Fix: use CocoEvaluator alone; for the shipped configs, dataloader.evaluator.1=null"


class KittiEvaluator(DatasetEvaluator):
    """Collects a detector's boxes over a KITTI dataset and computes KITTI's own AP.

    Ground truth is the label files: all their objects, with the boxes that they give, and the
    classes that the dataset's preset gives them. For grouped classes (kitti3g) a figure follows
    the rules, but is none of KITTI's. A class for which KITTI's programs have no minimum overlap,
    such as Misc, is left out.

    Args:
        dataset_name: registered by `register_kitti`.
        left_out: ids of images that are not evaluated, because they cannot be read.

    Raises:
        UserError: if the dataset has no truncation and occlusion, or none of KITTI's classes.
    """

    def __init__(self, dataset_name: str, left_out: Collection[Any] = ()) -> None:
        metadata = MetadataCatalog.get(dataset_name)
        if metadata.get("kitti_frames") is None:
            source = metadata.get("json_file") or "a function in detectron2's catalog"
            raise UserError(
                f"{dataset_name} comes from {source}, which gives no truncation and occlusion of "
                f"its objects; KITTI's AP needs a dataset that register_kitti registers.\n{_FIX}"
            )
        left_out = set(left_out)
        frames = [frame for frame in metadata.kitti_frames() if frame.index not in left_out]
        self._labels = {
            name: label
            for label, name in enumerate(metadata.thing_classes)
            if name.lower() in MIN_OVERLAPS
        }
        if not self._labels:
            raise UserError(
                f"{dataset_name} has the classes {some(metadata.thing_classes)}, none of those "
                f"that KITTI evaluates: {', '.join(MIN_OVERLAPS)}.\n{_FIX}"
            )
        self._numbers = {frame.index: number for number, frame in enumerate(frames)}
        self._truth = to_ground_truth(frames, metadata.kitti_preset)
        is_object = self._truth.types != DONT_CARE
        known = (self._truth.truncated >= 0) | (self._truth.occluded >= 0)
        if is_object.any() and not known[is_object].any():
            raise UserError(
                f"{dataset_name}: its label files have -1, for unknown, as truncation and "
                f"occlusion of all {is_object.sum()} objects, so none is harder than another.\n"
                f"{_FIX}"
            )
        self._warn_of_few_objects(dataset_name)
        self._detections: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []

    def _warn_of_few_objects(self, dataset_name: str) -> None:
        few = []
        for name in self._labels:
            for title, difficulty in DIFFICULTIES.items():
                count = int(is_counted(self._truth, name.lower(), difficulty).sum())
                if 0 < count < RECALLS:
                    most = 100 * (count - 1) / (RECALLS - 1)
                    few.append(f"{name}/{title} has {count}, at most {most:.1f}")
        if few:
            logger.warning(
                "%s: KITTI's AP40 cannot reach 100 for fewer than %d objects: %s",
                dataset_name,
                RECALLS,
                "; ".join(few),
            )

    def reset(self) -> None:
        """Removes all detections."""
        self._detections = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Adds the detections of one batch.

        Args:
            inputs: dicts with `image_id`.
            outputs: dicts with `instances` on the original image: pred_boxes (xyxy pixels),
                scores and pred_classes.

        Raises:
            UserError: if the dataset has no such image.
        """
        for image, output in zip(inputs, outputs, strict=True):
            if image["image_id"] not in self._numbers:
                raise UserError(
                    f"detections in an image that the ground truth does not have: "
                    f"{image['image_id']}.\n"
                    "Fix: give dataloader.evaluator the dataset of dataloader.test"
                )
            found = output["instances"].to("cpu")
            # NumPy has no bfloat16
            values = (found.pred_classes, found.pred_boxes.tensor.double(), found.scores.double())
            self._detections.append(
                (self._numbers[image["image_id"]], *(value.numpy() for value in values))
            )

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Returns {"kitti": {metric: percent}} on the main process, {} on the others.

        "AP40-Car-moderate" is the figure of a class, "AP40-moderate" the mean over the classes;
        AP11 likewise; NaN where no object counts.
        """
        gathered = comm.gather(self._detections)
        if not comm.is_main_process():
            return {}
        # by frame, however many processes there were
        images = sorted((image for part in gathered for image in part), key=lambda image: image[0])
        return {"kitti": box_average_precision(self._truth, to_detections(images), self._labels)}


def to_ground_truth(frames: Sequence[KittiFrame], preset: KittiPreset) -> GroundTruth:
    """Returns the objects of some frames; their types are the preset's classes, if they have one.

    Args:
        frames: with their label files' objects.
        preset: as for `register_kitti`.
    """
    objects = [(number, item) for number, frame in enumerate(frames) for item in frame.objects]
    types = [preset.class_of.get(item.type, item.type).lower() for _, item in objects]
    return GroundTruth(
        frames=np.array([number for number, _ in objects], dtype=np.int64),
        types=np.array(types, dtype=np.str_),
        boxes_xyxy=np.array([item.box_xyxy for _, item in objects], np.float64).reshape(-1, 4),
        truncated=np.array([item.truncated for _, item in objects], dtype=np.float64),
        occluded=np.array([item.occluded for _, item in objects], dtype=np.int64),
    )


def to_detections(
    images: Sequence[tuple[int, np.ndarray, np.ndarray, np.ndarray]],
) -> Detections:
    """Returns the detections of some images.

    Args:
        images: number of the frame, ascending; classes (N,), boxes (N, 4) as xyxy in pixels and
            scores (N,).
    """
    empty = (np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0))
    columns = zip(empty, *(arrays for _, *arrays in images), strict=True)
    labels, boxes_xyxy, scores = (np.concatenate(column) for column in columns)
    counts = [len(image[1]) for image in images]
    frames = np.repeat(np.array([image[0] for image in images], dtype=np.int64), counts)
    return Detections(frames, labels, boxes_xyxy, scores)


def box_average_precision(
    truth: GroundTruth, found: Detections, labels: dict[str, int]
) -> dict[str, float]:
    """Computes KITTI's AP of detections.

    Args:
        truth: all objects.
        found: all detections, whatever their class is.
        labels: classes to evaluate -> their number in `found`; keys of `MIN_OVERLAPS`, in upper
            or lower case.

    Returns:
        Percent by name, as `KittiEvaluator.evaluate` describes them.
    """
    overlaps = find_overlaps(truth, found)
    nothing = {"AP40": float("nan"), "AP11": float("nan")}
    figures: dict[str, dict[str, float]] = {"AP40": {}, "AP11": {}}
    for name, label in labels.items():
        for title, difficulty in DIFFICULTIES.items():
            precisions = recall_precisions(truth, found, overlaps, name.lower(), label, difficulty)
            values = nothing if precisions is None else average_precisions(precisions)
            for metric, value in values.items():
                figures[metric][f"{name}-{title}"] = value
    metrics = {}
    for metric, of_classes in figures.items():
        for title in DIFFICULTIES:
            values = np.array([of_classes[f"{name}-{title}"] for name in labels])
            values = values[~np.isnan(values)]
            metrics[f"{metric}-{title}"] = float(values.mean()) if values.size else float("nan")
        metrics |= {f"{metric}-{key}": value for key, value in of_classes.items()}
    return metrics
