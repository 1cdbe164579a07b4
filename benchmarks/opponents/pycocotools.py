"""COCO's own evaluation."""

import contextlib
import importlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")  # in the order of its summary


def check_importable() -> None:
    """Imports pycocotools.

    Raises:
        ImportError: saying how to install it.
    """
    try:
        importlib.import_module("pycocotools.cocoeval")
    except ImportError as error:
        raise ImportError(f"{error}; pip install -e '.[bench]' brings it") from error


def box_figures(truth: dict[str, Any], detections: Sequence[dict[str, Any]]) -> dict[str, float]:
    """`FIGURES` in percent, NaN where there is no object.

    Args:
        truth: COCO JSON content; it is written into.
        detections: in COCO's result format; they are written into.
    """
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
