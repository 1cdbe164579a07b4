"""COCO evaluation of random detections around random objects, compared with pycocotools."""

import contextlib
import importlib
import io
from typing import Any

import numpy as np

from benchmarks.agreement import same_figures
from benchmarks.pair import Pair, Scale, Work
from projects.clockdistill.data.kitti_presets import PRESETS
from projects.clockdistill.evaluation.coco import box_average_precision

CLASSES = dict(enumerate(PRESETS["kitti7"].classes))
WIDTH, HEIGHT = 1242, 375  # of KITTI's images
DETECTIONS = 300  # per image
FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")  # in the order of pycocotools' summary


def drawn_scenes(scale: Scale) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns ground truth and detections in COCO's formats.

    Half of the detections lie near an object and have its class, half lie anywhere.
    """
    rng = np.random.default_rng(0)
    annotations, detections = [], []
    for image in range(scale.evaluated_images):
        boxes, labels = _objects(rng, scale.objects)
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            entry = {"image_id": image, "category_id": label, "bbox": box, "iscrowd": 0}
            annotations.append({**entry, "id": len(annotations) + 1, "area": box[2] * box[3]})

        chosen = rng.integers(scale.objects, size=DETECTIONS // 2)
        noise = rng.normal(0, 0.1, (len(chosen), 4)) * np.tile(boxes[chosen, 2:], 2)
        near = np.maximum(boxes[chosen] + noise, [-np.inf, -np.inf, 1, 1])
        anywhere, other_labels = _objects(rng, DETECTIONS - len(chosen))
        found = np.concatenate([near, anywhere]).tolist()
        found_labels = np.concatenate([labels[chosen], other_labels]).tolist()
        scores = rng.random(DETECTIONS).tolist()
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


def our_evaluation(scale: Scale) -> Work:
    truth, detections = drawn_scenes(scale)
    return lambda: box_average_precision(truth, detections, CLASSES)


def their_evaluation(scale: Scale) -> Work:
    """Returns an evaluation by pycocotools: `FIGURES` in percent, NaN where there is no object."""
    coco = importlib.import_module("pycocotools.coco")
    cocoeval = importlib.import_module("pycocotools.cocoeval")
    truth, detections = drawn_scenes(scale)

    def evaluate() -> dict[str, float]:
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

    return evaluate


def same_evaluation(scale: Scale) -> dict[str, float]:
    """Compares the figures of both."""
    measured = our_evaluation(scale)()
    figures = {name: measured[name] for name in FIGURES}
    same_figures(figures, their_evaluation(scale)(), 1e-9)
    return figures


PAIR = Pair(
    against="self",
    name="coco_evaluation",
    what="COCO evaluation of 1,500 images x 300 detections",
    reference="pycocotools, same figures",
    bound=">=",
    factor=3,
    ours=our_evaluation,
    theirs=[their_evaluation],
    check=same_evaluation,
)
