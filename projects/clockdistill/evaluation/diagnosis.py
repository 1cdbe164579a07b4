"""What a detector gets wrong: kinds of errors, confused classes, thresholds, errors by image.

All of it is at IoU 0.5. A detection that lies in a crowd of its class is neither right nor wrong,
and a crowd is not missed, as in COCO's AP.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hotcoco import COCOeval

from projects.clockdistill.evaluation.coco import average_precision, evaluate_boxes

IOU = 0.5
# confidence thresholds for which F1 is computed; a user can type each of them
THRESHOLDS = np.arange(101) / 100
RECALLS = np.arange(101) / 100  # where COCO samples precision
# hotcoco's names of the kinds of errors -> ours
_ERRORS = {
    "Loc": "localisation",
    "Cls": "class",
    "Both": "class and localisation",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
}


@dataclass(frozen=True)
class F1Curve:
    """Precision, recall and their harmonic mean F1 when detections below a threshold are left out.

    Attributes:
        precision, recall, f1: (101,) in [0, 1], one for each of `THRESHOLDS`. Precision is 0 where
            there is no detection.
        best: index of the highest F1, amid the last thresholds that all have it; None if F1 is
            0 everywhere.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    best: int | None


@dataclass(frozen=True)
class ErrorKind:
    """How often an error happens and what it costs.

    Attributes:
        ap50_gain: by how many percent AP50 rises if only these errors are corrected.
        count: over all detections, whatever their confidence.
    """

    ap50_gain: float
    count: int


@dataclass(frozen=True)
class Diagnosis:
    """Result of `diagnose`; classes are in the order of the class names.

    Attributes:
        metrics: percent by name, as `box_average_precision` returns them.
        objects: number of objects of each class, without crowds.
        precision: (K, 101) highest precision in [0, 1] at each of `RECALLS` or beyond; NaN for a
            class without objects.
        f1: one curve for each class; None for a class without objects.
        overall: the curve of all classes together.
        errors: kind of error (Source: TIDE, arXiv 2008.08115) -> what it costs.
        confusion: (K + 1, K + 1) number of objects of the row's class that are detected as the
            column's class, from the best threshold of `overall` on. In the last column they are
            missed; in the last row there is no object.
    """

    metrics: dict[str, float]
    objects: list[int]
    precision: np.ndarray
    f1: list[F1Curve | None]
    overall: F1Curve
    errors: dict[str, ErrorKind]
    confusion: np.ndarray

    @property
    def threshold(self) -> float:
        """The best threshold for all classes together; 0 if no detection is right."""
        return float(THRESHOLDS[self.overall.best or 0])


@dataclass
class ImageErrors:
    """What is right and wrong in one image; annotations and detections as they were given.

    Attributes:
        hits: pairs of an annotation and the detection that is right about it.
        wrong_classes: pairs of an annotation that has no such detection and one of another class.
        false_alarms: the other detections, duplicates among them.
        misses: the other annotations.
    """

    hits: list[tuple[dict, dict]] = field(default_factory=list)
    wrong_classes: list[tuple[dict, dict]] = field(default_factory=list)
    false_alarms: list[dict] = field(default_factory=list)
    misses: list[dict] = field(default_factory=list)

    @property
    def count(self) -> int:
        """The number of errors."""
        return len(self.wrong_classes) + len(self.false_alarms) + len(self.misses)


def diagnose(
    ground_truth: dict[str, Any],
    detections: Sequence[dict[str, Any]],
    class_names: Mapping[Any, str],
) -> Diagnosis:
    """Computes what a report shows about detections.

    Args:
        ground_truth: COCO JSON content, as `load_ground_truth` returns it; boxes in xywh pixels.
        detections: dicts of image_id, category_id, bbox (xywh pixels) and score in [0, 1].
        class_names: category id -> name.

    Raises:
        UserError: if a detection belongs to an image that the ground truth does not have.
    """
    evaluation = evaluate_boxes(ground_truth, detections, class_names)
    label_of = {category: label for label, category in enumerate(class_names)}
    objects = [0] * len(class_names)
    images = {image["id"] for image in ground_truth["images"]}
    for annotation in ground_truth["annotations"]:
        label = label_of.get(annotation["category_id"])
        if label is not None and not annotation["iscrowd"] and annotation["image_id"] in images:
            objects[label] += 1

    # COCO leaves out detections in crowds and those beyond the 100 best of a class and image
    status = evaluation.image_diagnostics(IOU, score_thr=2)["dt_status"]
    counted = [number - 1 for number in status]
    scores = np.array([detections[index]["score"] for index in counted])
    labels = np.array([label_of[detections[index]["category_id"]] for index in counted], int)
    is_right = np.array([value == "tp" for value in status.values()], bool)
    overall = _f1_curve(scores, is_right, sum(objects))
    f1 = [
        _f1_curve(scores[labels == label], is_right[labels == label], number) if number else None
        for label, number in enumerate(objects)
    ]
    precision = evaluation.eval["precision"][0, :, :, 0, -1].T  # at IoU 0.5, of objects of any size
    threshold = THRESHOLDS[overall.best or 0]
    shown = [detections[index] for index in counted if detections[index]["score"] >= threshold]
    return Diagnosis(
        metrics=average_precision(evaluation, class_names.values()),
        objects=objects,
        precision=np.where(precision < 0, np.nan, precision),
        f1=f1,
        overall=overall,
        errors=_error_kinds(evaluation),
        confusion=_confusion(ground_truth, shown, class_names),
    )


def errors_by_image(
    ground_truth: dict[str, Any],
    detections: Sequence[dict[str, Any]],
    class_names: Mapping[Any, str],
    threshold: float,
) -> dict[Any, ImageErrors]:
    """Finds what is right and wrong in each image.

    Args:
        ground_truth, detections, class_names: as of `diagnose`.
        threshold: detections of a lower score are left out.

    Returns:
        image id -> its errors, for all images of the ground truth.
    """
    shown = [detection for detection in detections if detection["score"] >= threshold]
    evaluation = evaluate_boxes(ground_truth, shown, class_names)
    found = evaluation.image_diagnostics(IOU, score_thr=threshold)
    annotations = ground_truth["annotations"]
    images = {image["id"]: ImageErrors() for image in ground_truth["images"]}
    wrong = {
        entry["dt_id"]: entry["gt_id"]
        for entry in found["label_errors"]
        if entry["type"] == "wrong_label"
    }
    for number in sorted(found["dt_status"]):
        detection = shown[number - 1]
        image = images[detection["image_id"]]
        if number in found["dt_match"]:
            image.hits.append((annotations[found["dt_match"][number] - 1], detection))
        elif number in wrong:
            image.wrong_classes.append((annotations[wrong[number] - 1], detection))
        else:
            image.false_alarms.append(detection)
    confused = set(wrong.values())
    for number, status in sorted(found["gt_status"].items()):
        if status == "fn" and number not in confused:
            annotation = annotations[number - 1]
            images[annotation["image_id"]].misses.append(annotation)
    return images


def _f1_curve(scores: np.ndarray, is_right: np.ndarray, objects: int) -> F1Curve:
    # number of detections, and of right ones, with a score of each threshold or more
    found = len(scores) - np.searchsorted(np.sort(scores), THRESHOLDS)
    right = is_right.sum() - np.searchsorted(np.sort(scores[is_right]), THRESHOLDS)
    precision = right / np.maximum(found, 1)
    recall = right / max(objects, 1)
    f1 = 2 * right / np.maximum(found + objects, 1)
    if not f1.max():
        return F1Curve(precision, recall, f1, None)
    equal = np.flatnonzero(f1 == f1.max())
    last = np.split(equal, np.flatnonzero(np.diff(equal) > 1) + 1)[-1]
    return F1Curve(precision, recall, f1, int(last[len(last) // 2]))


def _error_kinds(evaluation: COCOeval) -> dict[str, ErrorKind]:
    found = evaluation.tide_errors(pos_thr=IOU)
    return {
        name: ErrorKind(100 * found["delta_ap"][key], found["counts"][key])
        for key, name in _ERRORS.items()
    }


def _confusion(
    ground_truth: dict[str, Any], detections: list[dict], class_names: Mapping[Any, str]
) -> np.ndarray:
    """Returns the confusion matrix of `Diagnosis` of detections that are in no crowd."""
    evaluation = evaluate_boxes(ground_truth, detections, class_names)
    # by default 100 per image, of all classes together; hotcoco leaves out crowds
    found = evaluation.confusion_matrix(IOU, max_det=max(1, len(detections)))
    return found["matrix"].astype(int)
