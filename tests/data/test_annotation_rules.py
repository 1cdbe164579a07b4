"""Rules for annotations, on detectron2's dicts as any route gives them."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.structures import BoxMode

from projects.clockdistill.data.annotation_rules import (
    check_annotations,
    shared_images,
    unmatched_objects,
)
from projects.clockdistill.data.annotations import DROPPED, UNCLIPPED
from projects.clockdistill.data.findings import Findings

CLASSES = ["car", "van"]


def item(bbox, category_id=0, iscrowd=0, mode=BoxMode.XYWH_ABS, **more) -> dict:
    return {
        "bbox": bbox,
        "bbox_mode": mode,
        "category_id": category_id,
        "iscrowd": iscrowd,
        **more,
    }


def image(*annotations, index=0, **more) -> dict:
    """An image of 640 x 480 pixels."""
    record = {"file_name": f"/nowhere/{index}.png", "image_id": index, "width": 640, "height": 480}
    return {**record, "annotations": list(annotations), **more}


def check(*dicts) -> Findings:
    findings = Findings()
    check_annotations(dicts, SimpleNamespace(thing_classes=CLASSES), findings)
    return findings


GOOD = [item([1, 2, 30, 40]), item([5, 6, 200, 100], category_id=1)]


def test_sound_annotations_pass_without_a_word():
    boxes = (
        [1, 2, 30, 40],
        (1.5, 2, 30, 40),
        np.array([1, 2, 30, 40], dtype=np.float32),
        torch.tensor([1, 2, 30, 40]),
        [np.int64(1), 2, np.float32(30), 40],
    )
    findings = check(
        image(*GOOD),
        image(*map(item, boxes), index="text"),
        image(item([1, 2, 30, 40], mode=BoxMode.XYXY_ABS), index=1.5),
        image(index=np.int64(7), file_name=Path("/nowhere/path.png")),
    )
    assert (findings.errors, findings.warnings, dict(findings.counts)) == ([], [], {})


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (item([1, 2, 3]), "boxes that are not four finite numbers"),
        (item([1, 2, 3, float("nan")]), "four finite numbers"),
        (item([1, 2, 3, float("inf")]), "four finite numbers"),
        (item([1, 2, "3", 4]), "four finite numbers"),
        (item([True, 2, 3, 4]), "four finite numbers"),
        (item([1, 2, 3, 2e9]), "four finite numbers"),
        (item([1, 2, 3, 4, 30]), "four finite numbers"),
        (item(None), "four finite numbers"),
        (item("1234"), "four finite numbers"),
        (item([1, 2, 3, 4], mode=BoxMode.XYWH_REL), "bbox_mode is missing or unknown"),
        (item([1, 2, 3, 4], mode=None), "bbox_mode is missing or unknown"),
        (item([1, 2, 3, 4], category_id=2), "category_id is not one of 0 to 1"),
        (item([1, 2, 3, 4], category_id=-1), "category_id is not one of 0 to 1"),
        (item([1, 2, 3, 4], category_id=0.5), "category_id is not one of 0 to 1"),
        (item([1, 2, 3, 4], category_id="0"), "category_id is not one of 0 to 1"),
        (item([1, 2, 3, 4], iscrowd="0"), "iscrowd is neither 0 nor 1"),
        (item([1, 2, 3, 4], iscrowd=2), "iscrowd is neither 0 nor 1"),
        (item([1, 2, 3, 4], area="12"), "area is no number"),
        (item([1, 2, 3, 4], area=float("nan")), "area is no number"),
        ("annotation", "annotations that are no dict"),
    ],
)
def test_what_is_no_annotation_is_an_error_with_its_place(broken, message):
    (error,) = check(image(*GOOD), image(GOOD[0], broken, index=1)).errors
    assert message in error and "images[1] (/nowhere/1.png) annotations[1]" in error
    assert "Fix: " in error and "\n" not in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_name": None}, "file_name is missing or no text"),
        ({"image_id": None}, "image_id is missing"),
        ({"image_id": [1]}, "image_id is missing or neither text nor number"),
        ({"image_id": True}, "image_id is missing or neither"),
        ({"image_id": float("nan")}, "image_id is missing or neither"),
        ({"width": "640"}, "width or height is no whole number"),
        ({"height": 0}, "width or height is no whole number"),
        ({"height": 10.5}, "width or height is no whole number"),
        ({"annotations": None}, "annotations are no list"),
    ],
)
def test_what_is_no_image_is_an_error_with_its_place(change, message):
    (error,) = check(image(*GOOD), image(*GOOD, index=1) | change).errors
    assert message in error and "images[1]" in error and "Fix: " in error


@pytest.mark.parametrize("id_", [0, 0.0, np.int64(0)])
def test_images_of_one_id_are_named(id_):
    # not an error: two datasets that are trained on together may have the same ids
    findings = check(image(*GOOD), image(*GOOD, image_id=id_), image(*GOOD, image_id="0"))
    assert findings.counts == {"images that are listed before": 2}
    assert not findings.errors and "image_id 0, which" in findings.warnings[0]


def test_many_faults_of_a_kind_are_one_error():
    (error,) = check(image(*GOOD), image(*[item([1, 2, 3])] * 30, index=1)).errors
    assert "annotations[9] and 20 more" in error


def corners(boxes_xywh):
    return [[x, y, x + w, y + h] for x, y, w, h in boxes_xywh]


def spread(number=50):
    """Boxes xywh all over the image."""
    rng = np.random.default_rng(0)
    xy, sizes = rng.uniform([0, 0], [500, 400], (number, 2)), rng.uniform(10, 80, (number, 2))
    return np.concatenate([xy, sizes], axis=1).tolist()


@pytest.mark.parametrize(
    ("boxes", "mode", "question"),
    [
        (corners(spread()), BoxMode.XYWH_ABS, "are these x1, y1, x2, y2?"),
        (corners(spread(10)) + spread(30), BoxMode.XYWH_ABS, "are these x1, y1, x2, y2?"),
        (spread(), BoxMode.XYXY_ABS, "are these x, y, width, height?"),
        ([[0.1, 0.2, 0.3, 0.4]] * 3, BoxMode.XYWH_ABS, "are these normalised to [0, 1]?"),
        ([[0.1, 0.2, 0.3, 0.4]] * 3, BoxMode.XYXY_ABS, "are these normalised to [0, 1]?"),
        ([*spread(), [10, 10, 3000, 50]], BoxMode.XYWH_ABS, "do boxes and images have the same"),
        ((1.4 * np.array(spread())).tolist(), BoxMode.XYWH_ABS, "overhang their image by more"),
    ],
)
def test_boxes_in_another_format_are_asked_about(boxes, mode, question):
    classes = [index % 2 for index in range(len(boxes))]
    annotations = [item(box, label, mode=mode) for box, label in zip(boxes, classes, strict=True)]
    warnings = check(image(*GOOD, *annotations)).warnings
    assert len(warnings) == 1 and question in warnings[0]
    assert f" of {len(boxes) + 2} boxes (" in warnings[0] and "%)" in warnings[0]


@pytest.mark.parametrize("mode", [BoxMode.XYWH_ABS, BoxMode.XYXY_ABS])
def test_boxes_in_their_format_raise_no_question(mode):
    boxes = spread() if mode == BoxMode.XYWH_ABS else corners(spread())
    sloppy = [600, 440, 50, 60] if mode == BoxMode.XYWH_ABS else [600, 440, 650, 500]
    annotations = [item(box, index % 2, mode=mode) for index, box in enumerate([*boxes, sloppy])]
    findings = check(image(*annotations))
    assert not findings.warnings and findings.counts == {"boxes clipped to their image": 1}


def test_a_file_that_is_evaluated_as_it_is_says_so():
    findings = Findings()
    metadata = SimpleNamespace(thing_classes=CLASSES, json_file="instances.json")
    check_annotations([image(*GOOD * 9, item([600, 10, 60, 20]))], metadata, findings)
    assert findings.counts == {"boxes clipped to their image for training, not for evaluation": 1}


def test_what_readers_changed_is_judged_and_counted():
    # a reader has clipped a box that it read as x, y, width, height
    clipped = item([300, 200, 340, 280], **{UNCLIPPED: [300, 200, 400, 300]})
    findings = check(image(clipped, GOOD[1], **{DROPPED: {"boxes dropped": 3}}))
    assert findings.counts == {"boxes dropped": 3, "boxes clipped to their image": 1}
    assert "are these x1, y1, x2, y2?" in findings.warnings[0]


def test_data_without_a_usable_object_is_an_error():
    # the second of width 0 in float32, the third with so much of it inside the image
    useless = [item([1, 1, 5, 5], iscrowd=1), item([500, 1, 1e-9, 5]), item([-5, 1, 5 + 1e-9, 5])]
    for dicts in ([], [image()], [image(*useless)]):
        assert "no usable object" in check(*dicts).errors[0]
    counts = check(image(*useless)).counts
    assert counts == {
        "crowd boxes, not trained on": 1,
        "boxes without width or height, not trained on": 1,
        "boxes outside their image, not trained on": 1,
    }


def test_a_class_without_an_object_is_named():
    (warning,) = check(image(GOOD[0], item([1, 2, 30, 40], category_id=1, iscrowd=1))).warnings
    assert warning.startswith("1 of 2 classes have no object: van.")


def test_classes_of_one_name_and_images_listed_twice_are_named():
    findings = Findings()
    dicts = [image(*GOOD), image(*GOOD, image_id="again")]
    check_annotations(dicts, SimpleNamespace(thing_classes=["car", "car"]), findings)
    assert "several classes have the name car" in findings.warnings[0]
    assert findings.counts == {"images that are listed before": 1}


def test_images_of_both_splits_are_found_by_file(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "folder").symlink_to(tmp_path)

    def dicts(*names):
        return [{"file_name": str(tmp_path / name)} for name in names]

    train = dicts("a.png", "b.png", "gone.png")
    val = dicts("link.png", "c.png", "folder/b.png", "gone.png", "other.png")
    names = [os.path.relpath(path, tmp_path) for path in shared_images(train, val)]
    assert names == ["link.png", "folder/b.png", "gone.png"]


def test_objects_beyond_the_queries_are_counted():
    crowd = item([1, 1, 5, 5], iscrowd=1)
    dicts = [image(*GOOD * 3, crowd), image(*GOOD * 2), image()]
    assert [unmatched_objects(dicts, queries) for queries in (1, 4, 5, 6)] == [8, 2, 1, 0]
