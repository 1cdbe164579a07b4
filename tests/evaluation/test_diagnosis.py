"""Tests what a diagnosis says about detections whose errors are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projects.clockdistill.evaluation.coco import box_average_precision
from projects.clockdistill.evaluation.diagnosis import THRESHOLDS, diagnose, errors_by_image
from tests.evaluation.test_coco import _NAMES, _reference, _scene

NAMES = {"c": "car", 7: '<van & "co">'}  # ids of any kind


def truth(image, category, box, crowd=0) -> dict:
    area = box[2] * box[3]
    return {
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": area,
        "iscrowd": crowd,
    }


def found(image, category, box, score) -> dict:
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


A, B, C, D = [0, 0, 40, 40], [100, 0, 40, 40], [200, 0, 40, 40], [300, 0, 40, 40]
OFF = [220, 0, 40, 40]  # IoU with C: 20 / 60 = 1/3, a localisation error
CROWD = [400, 0, 200, 200]
SCENE = {
    "images": [{"id": "a.png"}, {"id": 3}, {"id": "empty"}],
    "annotations": [
        truth("a.png", "c", A),
        truth("a.png", "c", B),
        truth("a.png", 7, C),
        truth("a.png", "c", CROWD, crowd=1),
        truth(3, 7, D),
        truth(3, "unknown", A),
    ],
}
DETECTIONS = [
    found("a.png", "c", A, 0.9),  # right
    found("a.png", "c", A, 0.8),  # duplicate
    found("a.png", 7, B, 0.7),  # wrong class
    found("a.png", 7, OFF, 0.6),  # not located well enough
    found("a.png", "c", [450, 50, 40, 40], 0.95),  # in a crowd: neither right nor wrong
    found(3, "c", A, 0.5),  # nothing is there
    found(3, 7, D, 0.05),  # right, with little confidence
]


def test_each_error_is_counted_as_what_it_is() -> None:
    errors = diagnose(SCENE, DETECTIONS, NAMES).errors
    counts = {name: kind.count for name, kind in errors.items()}
    # the object at B is found as another class and that at C inexactly: TIDE counts neither as
    # missed as well
    assert counts == {
        "localisation": 1,
        "class": 1,
        "class and localisation": 0,
        "duplicate": 1,
        "background": 1,
        "missed": 0,
    }
    assert all(kind.ap50_gain >= 0 for kind in errors.values())


def test_f1_is_that_of_the_detections_above_each_threshold() -> None:
    diagnosis = diagnose(SCENE, DETECTIONS, NAMES)
    assert diagnosis.objects == [2, 2]
    cars, vans = diagnosis.f1
    # from 0.81 to 0.9 there is one detection, right about one of two cars: F1 = 2 * 1 / (1 + 2)
    assert cars.f1[86] == pytest.approx(2 / 3) and cars.best == 86  # the middle one
    assert (cars.precision[85], cars.recall[85]) == (1, 0.5)
    assert cars.f1[80] == pytest.approx(2 / 4)  # with the duplicate
    # up to 0.05 there are three, of which the last is right: F1 = 2 * 1 / (3 + 2)
    assert vans.f1[0] == pytest.approx(2 / 5) and vans.f1[6] == 0
    assert THRESHOLDS[vans.best] <= 0.05
    # all classes: one of one detection is right about one of four objects
    assert diagnosis.overall.f1[85] == pytest.approx(2 / 5)
    assert diagnosis.threshold == 0.86


def test_confusion_matrix_counts_every_object_and_shown_detection_outside_crowds() -> None:
    low = [{**entry, "score": 1.0} for entry in DETECTIONS]  # now all are shown
    confusion = diagnose(SCENE, low, NAMES).confusion
    # rows: car, van, no object; columns: found as car, as van, missed
    assert confusion.tolist() == [[1, 1, 0], [0, 1, 1], [2, 1, 0]]


def test_errors_are_listed_by_image() -> None:
    images = errors_by_image(SCENE, DETECTIONS, NAMES, threshold=0.3)
    first, second, empty = images["a.png"], images[3], images["empty"]
    annotations = SCENE["annotations"]
    assert first.hits == [(annotations[0], DETECTIONS[0])]
    assert first.wrong_classes == [(annotations[1], DETECTIONS[2])]
    assert first.false_alarms == [DETECTIONS[1], DETECTIONS[3]]
    assert first.misses == [annotations[2]]
    assert second.hits == [] and second.false_alarms == [DETECTIONS[5]]
    assert second.misses == [annotations[4]]
    assert (first.count, second.count, empty.count) == (4, 2, 0)


@pytest.mark.parametrize("annotations", [[], SCENE["annotations"][:1]])
def test_no_detection_has_no_best_threshold(annotations: list) -> None:
    diagnosis = diagnose({**SCENE, "annotations": annotations}, [], NAMES)
    assert diagnosis.overall.best is None and diagnosis.threshold == 0
    assert diagnosis.f1[1] is None and np.isnan(diagnosis.precision[1]).all()
    assert diagnosis.confusion.sum() == len(annotations)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    images=st.integers(1, 6),
    objects=st.integers(1, 8),
    detections=st.integers(1, 60) | st.integers(300, 500),
)
def test_ap_is_that_of_the_evaluation_and_of_pycocotools(
    seed: int, images: int, objects: int, detections: int
) -> None:
    scene, results = _scene(seed, images, objects, detections)
    diagnosis = diagnose(scene, results, _NAMES)
    ours = box_average_precision(scene, results, _NAMES)
    np.testing.assert_equal(diagnosis.metrics, ours)
    reference = _reference(scene, results)
    values = [diagnosis.metrics[name] for name in reference]
    np.testing.assert_allclose(values, list(reference.values()), rtol=0, atol=1e-6)
    # the area below the precision-recall curves is AP50
    with_objects = diagnosis.precision[~np.isnan(diagnosis.precision[:, 0])]
    if len(with_objects):
        np.testing.assert_allclose(100 * with_objects.mean(), ours["AP50"], atol=1e-9)
    # an object is detected as a class or missed; right and wrong detections are those by image
    by_image = errors_by_image(scene, results, _NAMES, diagnosis.threshold).values()
    assert diagnosis.confusion[:-1].sum() == sum(diagnosis.objects)
    hits = sum(len(image.hits) for image in by_image)
    lost = sum(len(image.misses) for image in by_image)
    confused = {id(pair[0]) for image in by_image for pair in image.wrong_classes}
    assert hits + lost + len(confused) == sum(diagnosis.objects)
    shown = sum(len(e.hits) + len(e.wrong_classes) + len(e.false_alarms) for e in by_image)
    assert diagnosis.confusion[:, :-1].sum() == shown
    if diagnosis.overall.best is not None:
        recall = diagnosis.overall.recall[diagnosis.overall.best]
        assert hits == round(recall * sum(diagnosis.objects))
