"""Seconds of the COCO and of the KITTI evaluation of the same detections.

    OMP_NUM_THREADS=1 python benchmarks/kitti_evaluation.py

The scenes are those of the benchmark `coco_evaluation`: 1,500 images x 300 detections.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

# as a script it has only benchmarks/ on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.pair import FULL
from benchmarks.pairs.evaluation import CLASSES, drawn_scenes
from projects.clockdistill.evaluation import coco, kitti
from projects.clockdistill.evaluation.kitti_rules import Detections, GroundTruth


def as_kitti(truth: dict, detections: list[dict]) -> tuple[GroundTruth, Detections]:
    """Returns scenes in COCO's formats as KITTI's evaluation takes them, all objects visible."""
    objects = truth["annotations"]
    frames, boxes_xyxy, labels = _columns(objects)
    types = np.array([name.lower() for name in CLASSES.values()])[labels]
    visible = np.zeros(len(objects), dtype=np.int64)
    found_frames, found_xyxy, found_labels = _columns(detections)
    scores = np.array([entry["score"] for entry in detections])
    return (
        GroundTruth(frames, types, boxes_xyxy, visible.astype(float), visible),
        Detections(found_frames, found_labels, found_xyxy, scores),
    )


def _columns(entries: Sequence[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns images (N,), boxes (N, 4) as xyxy in pixels and classes (N,)."""
    boxes = np.array([entry["bbox"] for entry in entries], dtype=float)
    boxes[:, 2:] += boxes[:, :2]
    images = np.array([entry["image_id"] for entry in entries])
    return images, boxes, np.array([entry["category_id"] for entry in entries])


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=FULL.evaluated_images)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(argv)
    truth, detections = drawn_scenes(replace(FULL, evaluated_images=arguments.images))
    objects, found = as_kitti(truth, detections)
    labels = {name: label for label, name in CLASSES.items()}
    works = {
        "COCO": lambda: coco.box_average_precision(truth, detections, CLASSES),
        "KITTI": lambda: kitti.box_average_precision(objects, found, labels),
    }
    for name, work in works.items():
        seconds = []
        for _ in range(arguments.rounds):
            start = time.perf_counter()
            figures = work()
            seconds.append(time.perf_counter() - start)
        first = ", ".join(f"{key} {value:.1f}" for key, value in list(figures.items())[:3])
        print(f"{name}: {statistics.median(seconds):.2f} s ({first})")


if __name__ == "__main__":
    main()
