"""COCO evaluation of random detections around random objects, compared with pycocotools."""

import contextlib
import copy
import importlib
import io
from typing import Any

import numpy as np

from benchmarks.agreement import same_figures
from benchmarks.measuring import seconds
from benchmarks.pair import Pair, Sides, Target
from benchmarks.scale import Scale
from projects.clockdistill.data.kitti_presets import PRESETS
from projects.clockdistill.evaluation.coco import box_average_precision

CLASSES = dict(enumerate(PRESETS["kitti7"].classes))
WIDTH, HEIGHT = 1242, 375  # of KITTI's images
FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")  # in the order of pycocotools' summary


def drawn_scenes(scale: Scale) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns ground truth and detections in COCO's formats.

    Half of the detections lie near an object and have its class, half lie anywhere.
    """
    rng = np.random.default_rng(0)
    annotations, detections = [], []
    for image in range(scale.evaluated_images):
        boxes, labels = _objects(rng, scale.objects)
        chosen = rng.integers(scale.objects, size=scale.detections // 2)
        noise = rng.normal(0, 0.1, (len(chosen), 4)) * np.tile(boxes[chosen, 2:], 2)
        near = np.maximum(boxes[chosen] + noise, [-np.inf, -np.inf, 1, 1])
        other_boxes, other_labels = _objects(rng, scale.detections - len(chosen))
        found = np.concatenate([near, other_boxes]).tolist()
        found_labels = np.concatenate([labels[chosen], other_labels]).tolist()
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            entry = {"image_id": image, "category_id": label, "bbox": box, "iscrowd": 0}
            annotations.append({**entry, "id": len(annotations) + 1, "area": box[2] * box[3]})
        scores = rng.random(scale.detections).tolist()
        for box, label, score in zip(found, found_labels, scores, strict=True):
            entry = {"image_id": image, "category_id": label, "bbox": box}
            detections.append({**entry, "score": score})
    images = range(scale.evaluated_images)
    truth = {
        "info": {},
        "images": [{"id": image, "width": WIDTH, "height": HEIGHT} for image in images],
        "categories": [{"id": label, "name": name} for label, name in CLASSES.items()],
        "annotations": annotations,
    }
    return truth, detections


def _objects(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (count, 4) boxes as xywh in pixels, of all of COCO's sizes, and (count,) labels."""
    sizes = np.exp(rng.uniform(np.log(12), np.log(360), (count, 2)))
    corners = rng.uniform(0, (WIDTH - 12, HEIGHT - 12), (count, 2))
    return np.concatenate([corners, sizes], axis=1), rng.integers(len(CLASSES), size=count)


def evaluate_by_pycocotools(
    truth: dict[str, Any], detections: list[dict[str, Any]]
) -> dict[str, float]:
    """Returns `FIGURES` in percent, NaN where there is no object; adds entries to its arguments."""
    coco = importlib.import_module("pycocotools.coco")
    cocoeval = importlib.import_module("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = coco.COCO()
        annotated.dataset = truth
        annotated.createIndex()
        evaluation = cocoeval.COCOeval(annotated, annotated.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = np.where(evaluation.stats < 0, np.nan, 100 * evaluation.stats)
    return dict(zip(FIGURES, values[: len(FIGURES)].tolist(), strict=True))


def _sides(scale: Scale) -> Sides:
    truth, detections = drawn_scenes(scale)
    copied = copy.deepcopy((truth, detections))

    def ours() -> dict[str, float]:
        return box_average_precision(truth, detections, CLASSES)

    def theirs() -> dict[str, float]:
        return evaluate_by_pycocotools(*copied)

    def check() -> dict[str, float]:
        measured = ours()
        figures = {name: measured[name] for name in FIGURES}
        return {**figures, "figures differ by": same_figures(figures, theirs(), 1e-9)}

    return Sides({"evaluation": seconds(ours)}, {"evaluation": seconds(theirs)}, check)


PAIRS = (
    Pair(
        "coco_evaluation",
        "COCO evaluation of 1,500 images x 300 detections",
        "self",
        "pycocotools, same figures",
        Target(3, at_least=True),
        _sides,
    ),
)
