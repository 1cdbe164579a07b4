"""The times of both evaluations are of the same scenes."""

import math
from collections import Counter

import pytest

from benchmarks import kitti_evaluation
from benchmarks.pair import QUICK
from benchmarks.pairs.evaluation import CLASSES, drawn_scenes
from projects.clockdistill.evaluation import kitti


def test_objects_that_are_found_exactly_are_all_right() -> None:
    truth, _ = drawn_scenes(QUICK)
    exact = [{**item, "score": 0.5} for item in truth["annotations"]]
    labels = {name: label for label, name in CLASSES.items()}
    figures = kitti.box_average_precision(*kitti_evaluation.as_kitti(truth, exact), labels)
    counts = Counter(item["category_id"] for item in truth["annotations"] if item["bbox"][3] >= 40)
    assert counts
    for name, label in labels.items():
        # of the 11 precisions, every fourth of `count` is 1
        most = 100 * math.ceil(counts[label] / 4) / 11 if counts[label] else math.nan
        assert figures[f"AP11-{name}-easy"] == pytest.approx(most, nan_ok=True)


def test_both_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    kitti_evaluation.main(["--images", "2", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["COCO", "KITTI"]
