"""Order of the images, and what is drawn of objects and detections."""

from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from projects.clockdistill.analysis.detection_pictures import (
    counts_table,
    detection_rows,
    hardest_images,
)
from projects.clockdistill.analysis.run_detections import EvaluationData
from projects.clockdistill.evaluation.diagnosis import ImageErrors, errors_by_image
from projects.clockdistill.visualization.detection_grid import Outcome

NAMES = {3: "red", 7: "green"}


def entry(category: int, left: float, image: str = "a", **more: object) -> dict:
    """An object of 20 x 20 pixels, or with a score a detection."""
    box = [left, 10.0, 20.0, 20.0]
    fields = {"area": 400.0, "iscrowd": 0} if "score" not in more else {}
    return {"image_id": image, "category_id": category, "bbox": box, **fields, **more}


@pytest.fixture
def data(tmp_path: Path) -> EvaluationData:
    Image.fromarray(np.zeros((50, 200, 3), np.uint8)).save(tmp_path / "a.png")
    objects = [entry(3, 0), entry(3, 40), entry(7, 80), entry(7, 120, iscrowd=1)]
    truth = {"images": [{"id": "a"}], "annotations": objects}
    records = {"a": {"file_name": str(tmp_path / "a.png")}}
    return EvaluationData(OmegaConf.create(), records, truth, list(NAMES.values()), {0: 3, 1: 7})


def test_each_outcome_is_drawn_as_such(data: EvaluationData) -> None:
    found = [
        entry(3, 0, score=0.9),  # a hit
        entry(7, 40, score=0.8),  # of another class
        entry(7, 80, score=0.4),  # below the threshold: its object is missed
        entry(7, 121, score=0.7),  # in the crowd
        entry(3, 160, score=0.6),  # a false alarm
    ]
    errors = errors_by_image(data.ground_truth, found, NAMES, 0.5)
    ((truth, student),) = detection_rows(data, {"student": errors}, ["a"])
    drawn = {(box.outcome, box.label, box.xyxy_px[0], box.score) for box in student.boxes}
    assert drawn == {
        (Outcome.HIT, 0, 0, 0.9),
        (Outcome.WRONG_CLASS, 1, 40, 0.8),
        (Outcome.MISS, 1, 80, None),
        (Outcome.FALSE_ALARM, 0, 160, 0.6),
    }
    assert student.title == "student\nhits: 1, missed: 1, wrong class: 1, false alarms: 1"
    assert {(box.outcome, box.xyxy_px[0]) for box in truth.boxes} == {
        *((None, left) for left in (0, 40, 80)),
        (Outcome.IGNORED, 120),
    }
    assert truth.title == "a.png\nobjects: 3"
    assert truth.boxes[0].xyxy_px == (0, 10, 20, 30)


def test_an_image_is_turned_as_its_annotations_are(data: EvaluationData) -> None:
    record = data.records["a"]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.open(record["file_name"]).save(record["file_name"], exif=exif)
    for size, shape in (((200, 50), (50, 200, 3)), ((50, 200), (200, 50, 3))):
        record["width"], record["height"] = size
        ((truth,),) = detection_rows(data, {}, ["a"])
        assert truth.pixels.shape == shape


def test_most_missed_objects_come_first_then_most_false_alarms() -> None:
    errors = {
        "few": ImageErrors(misses=[{}], false_alarms=[{}] * 9),
        "none": ImageErrors(hits=[({}, {})]),
        "most": ImageErrors(misses=[{}] * 3),
        "most, with false alarms": ImageErrors(misses=[{}] * 3, false_alarms=[{}]),
    }
    order = ["most, with false alarms", "most", "few", "none"]
    assert hardest_images(errors, 9) == order
    assert hardest_images(errors, 2) == order[:2]


def test_counts_are_sums_over_the_images() -> None:
    errors = {1: ImageErrors(misses=[{}] * 3), 2: ImageErrors(misses=[{}], hits=[({}, {})] * 2)}
    line = counts_table({"student": errors}, [1, 2]).splitlines()[-1]
    assert [cell.strip() for cell in line.strip("|").split("|")] == ["student", "2", "4", "0", "0"]
