"""COCO evaluation of drawn detections around drawn objects, beside pycocotools."""

import copy
from typing import Any

import numpy as np

from benchmarks.agreement import same_figures
from benchmarks.opponents import pycocotools
from benchmarks.pair import Pair, Sides, Target
from benchmarks.scale import Scale
from benchmarks.timing import seconds
from projects.clockdistill.data.kitti_presets import PRESETS
from projects.clockdistill.evaluation.coco import box_average_precision

CLASSES = dict(enumerate(PRESETS["kitti7"].classes))
SIZE = (1242, 375)  # width and height of KITTI's images


def drawn_scenes(
    images: int, objects: int, detections: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth in COCO's format, and detections: half of them near an object, half anywhere.

    Args:
        images: how many.
        objects: of each image.
        detections: of each image.
    """
    rng = np.random.default_rng(0)
    annotations, found = [], []
    for image in range(images):
        boxes, labels = _boxes(rng, objects), rng.integers(len(CLASSES), size=objects)
        for box, label in zip(boxes, labels, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(label),
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3]),
                    "iscrowd": 0,
                }
            )
        nearby = rng.integers(objects, size=detections // 2)
        spread = boxes[nearby, 2:].repeat(2, axis=0).reshape(-1, 4)
        near = boxes[nearby] + rng.normal(0, 0.1, (len(nearby), 4)) * spread
        anywhere = detections - len(nearby)
        near[:, 2:] = near[:, 2:].clip(min=1)
        for box, label, score in zip(
            np.concatenate([near, _boxes(rng, anywhere)]),
            np.concatenate([labels[nearby], rng.integers(len(CLASSES), size=anywhere)]),
            rng.random(detections),
            strict=True,
        ):
            entry = {"image_id": image, "category_id": int(label), "bbox": box.tolist()}
            found.append({**entry, "score": float(score)})
    truth = {
        "info": {},
        "images": [{"id": n, "width": SIZE[0], "height": SIZE[1]} for n in range(images)],
        "categories": [{"id": label, "name": name} for label, name in CLASSES.items()],
        "annotations": annotations,
    }
    return truth, found


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 4) xywh in pixels, of all of COCO's sizes."""
    sizes = np.exp(rng.uniform(np.log(12), np.log(360), (count, 2)))
    return np.concatenate([rng.uniform(0, np.array(SIZE) - 12, (count, 2)), sizes], axis=1)


def _sides(scale: Scale) -> Sides:
    truth, detections = drawn_scenes(scale.evaluated_images, scale.objects, scale.detections)
    copied = copy.deepcopy((truth, detections))  # pycocotools writes into what it is given

    def ours() -> dict[str, float]:
        return box_average_precision(truth, detections, CLASSES)

    def theirs() -> dict[str, float]:
        return pycocotools.box_figures(*copied)

    def check() -> dict[str, float]:
        measured = ours()
        figures = {name: measured[name] for name in pycocotools.FIGURES}
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
