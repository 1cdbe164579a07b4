"""How a run's AP would differ on other images: its AP on images drawn anew from the test images."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from projects.clockdistill.engine.atomic import atomic_write

DRAWS = 1000
_SEED = 0  # the same for all runs, so that all are measured on the same images


def resampled_ap(ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> np.ndarray:
    """AP on `DRAWS` sets of images, each drawn with replacement from all and as large.

    Boxes are matched once, as matching knows one image only; what is drawn anew are the matches
    that precision and recall are counted from.

    Args:
        ground_truth: COCO JSON content.
        detections: in COCO's result format.

    Returns:
        (DRAWS,) percent; the i-th of all runs is of the same images.
    """
    if not detections:
        return np.zeros(DRAWS)
    truth = COCO(ground_truth)
    evaluation = COCOeval_faster(truth, truth.loadRes(detections), "bbox", separate_eval=True)
    parameters = evaluation.params
    parameters.maxDets = [100]
    parameters.areaRng, parameters.areaRngLbl = parameters.areaRng[:1], ["all"]
    evaluation.evaluate()
    matches = evaluation._evalImgs_cpp  # class by class, each a list of images
    images, classes = len(evaluation.params.imgIds), len(evaluation.params.catIds)
    generator = np.random.default_rng(_SEED)
    values = []
    for _ in range(DRAWS):
        drawn = generator.integers(images, size=images).tolist()
        evaluation._evalImgs_cpp = [
            matches[label * images + image] for label in range(classes) for image in drawn
        ]
        evaluation.accumulate()
        precision = evaluation.eval["precision"]
        values.append(100 * precision[precision > -1].mean())
    return np.array(values)


def cached_resampled_ap(
    load_ground_truth: Callable[[], dict[str, Any]], file: Path
) -> np.ndarray | None:
    """The same of a file of detections, kept beside it for the next time.

    Returns:
        None if there is no such file.
    """
    cache = file.parent.with_name(f"resampled_ap_{DRAWS}.npy")
    if cache.is_file():
        return np.load(cache)
    if not file.is_file():
        return None
    values = resampled_ap(load_ground_truth(), json.loads(file.read_text()))
    with atomic_write(cache) as handle:
        np.save(handle, values)
    return values
