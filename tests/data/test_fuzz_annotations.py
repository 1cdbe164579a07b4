"""Damaged COCO files and KITTI labels: valid annotations, or one line that says what is wrong.

A damaged file is a valid one with changed bytes, or with values replaced by others.
"""

import copy
import itertools
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from detectron2.structures import BoxMode
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from projects.clockdistill.data.annotation_rules import check_annotations
from projects.clockdistill.data.coco_json import read_coco_json
from projects.clockdistill.data.findings import Findings
from projects.clockdistill.data.kitti import frame_to_dict
from projects.clockdistill.data.kitti_presets import PRESETS
from projects.clockdistill.data.kitti_tree import scan_tree
from tests.fuzzing import fuzz

WIDTH, HEIGHT = 64, 48
TIMES = itertools.count()


def segmentation() -> dict:
    return {"size": [HEIGHT, WIDTH], "counts": [100, 20, 28, 20, WIDTH * HEIGHT - 168]}


CONTENT = {
    "images": [
        {"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT},
        {"id": 2, "file_name": "b.png"},
    ],
    "categories": [{"id": 1, "name": "car"}, {"id": 7, "name": "van", "supercategory": "x"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 6, 20.5, 10], "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 7, "bbox": [60, 6, 20, 10], "area": 40.5},
        {"id": 3, "image_id": 2, "category_id": 7, "segmentation": [[1, 2, 9, 2, 9, 9]]},
        {"id": 4, "image_id": 2, "category_id": 7, "segmentation": segmentation()},
        {
            "id": 5,
            "image_id": 2,
            "category_id": 7,
            "segmentation": {**segmentation(), "counts": "T3d0l00li2"},
        },
    ],
}
LABELS = (
    "Car 0.25 1 -1.57 10.00 5.50 40.00 20.00 1.50 1.60 4.00 1.00 1.60 20.00 -1.52\n"
    "DontCare -1 -1 -10 3.89 9.71 60.61 30.13 -1 -1 -1 -1000 -1000 -1000 -10\n"
    "Person_sitting 0 0 0 -5.00 5.50 40.00 20.00 1.50 1.60 4.00 1.00 1.60 20.00 -1.52\n"
)

NUMBERS = st.sampled_from((0, 1, -1, 0.5, 1.0, 2, 7, 1e9, 1e-9, -1e300, 10**30, 10**400, 2**63))
VALUES = (
    NUMBERS
    | st.sampled_from((None, True, False, math.nan, math.inf, "", "1", "a.png", "\0", "\ud800"))
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.lists(NUMBERS, max_size=6)
    | st.sampled_from(([], {}, [[]], {"id": 1}, [None], [[1, 2, 3, 4, 5, 6]], "..", "a.png/x"))
)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Returns the paths of all values in JSON content, except the content itself."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    below = [(*path, key) for key, _ in items]
    for key in list(below):
        child = value[key[-1]]
        if isinstance(child, (dict, list)):
            below += places(child, key)
    return below


PLACES = places(CONTENT)


@st.composite
def changed_content(draw: st.DrawFn) -> bytes:
    """Draws a COCO file whose values are replaced, removed, doubled or added."""
    content = copy.deepcopy(CONTENT)
    for _ in range(draw(st.integers(1, 3))):
        *parents, key = draw(st.sampled_from(PLACES))
        parent = content
        try:
            for step in parents:
                parent = parent[step]
            kind = draw(st.sampled_from(("replace", "remove", "double", "add")))
            if kind == "replace":
                parent[key] = draw(VALUES)
            elif kind == "remove":
                del parent[key]
            elif kind == "double":
                parent.insert(0, parent[key])
            else:
                parent[draw(st.text(max_size=3))] = draw(VALUES)
        except (AttributeError, LookupError, TypeError):  # changed before, or a list
            continue
    return json.dumps(content).encode()


@st.composite
def changed_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Draws a content with changed, missing or additional bytes."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        piece = draw(st.binary(max_size=4) | st.sampled_from((b"0", b"-", b" ", b"e9", b"\n")))
        if draw(st.booleans()):
            content[place : place + draw(st.integers(0, 12))] = piece
        else:
            content[place:place] = piece
    return bytes(content)


@st.composite
def changed_labels(draw: st.DrawFn) -> bytes:
    """Draws a KITTI label file whose fields are replaced, removed or split."""
    lines = [line.split(" ") for line in LABELS.splitlines()]
    words = st.sampled_from(("nan", "inf", "-1", "0", "1e9", "1e300", "0x1", "1_0", "Car", "é", ""))
    words = words | st.floats().map(str) | st.text(max_size=4)
    for _ in range(draw(st.integers(1, 3))):
        line = draw(st.sampled_from(lines))
        place = draw(st.integers(0, len(line)))
        kept = draw(st.integers(0, 1))
        line[place : place + kept] = draw(st.lists(words, max_size=2))
    return "\n".join(" ".join(line) for line in lines).encode(errors="surrogatepass")


def assert_valid(dicts: list[dict], num_classes: int) -> None:
    """Asserts that every id and box is one, by the rules of training and by hand."""
    ids = [record["image_id"] for record in dicts]
    assert len(set(ids)) == len(ids)
    for record in dicts:
        assert type(record["image_id"]) in (int, float, str)
        assert (record["width"], record["height"]) > (0, 0)
        for item in record["annotations"]:
            box = item["bbox"]
            x1, y1, x2, y2 = BoxMode.convert(box, item["bbox_mode"], BoxMode.XYXY_ABS)
            assert all(map(math.isfinite, box))
            # to what the sum of two floats is rounded to
            assert 0 <= x1 < x2 <= record["width"] + 1e-6
            assert 0 <= y1 < y2 <= record["height"] + 1e-6
            assert item["category_id"] in range(num_classes) and item["iscrowd"] in (0, 1)
    findings = Findings()
    metadata = SimpleNamespace(thing_classes=[str(label) for label in range(num_classes)])
    check_annotations(dicts, metadata, findings)
    assert not [error for error in findings.errors if "no usable object" not in error]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, a.png and b.png, and a KITTI tree of one frame."""
    root = tmp_path_factory.mktemp("fuzz")
    for part in ("image_2", "label_2"):
        (root / "training" / part).mkdir(parents=True)
    for path in ("a.png", "b.png", "training/image_2/000000.png"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(root / path)
    return root


def check_coco(folder: Path, content: bytes) -> None:
    path = folder / "labels.json"
    path.write_bytes(content)
    os.utime(path, ns=(next(TIMES),) * 2)  # what was read is kept by size and time of the file
    try:
        categories, dicts = read_coco_json(path, folder)
    except (FileNotFoundError, ValueError) as error:
        assert str(path) in str(error) or "unreadable image" in str(error)
        assert "Fix: " in str(error) and "\n" not in str(error)
        return
    assert_valid(dicts, len(categories))


@fuzz(400)
@given(content=changed_content())
def test_a_coco_file_of_other_values_is_read_or_named(folder: Path, content: bytes) -> None:
    check_coco(folder, content)


@fuzz(300)
@given(content=changed_bytes(json.dumps(CONTENT).encode()))
def test_a_damaged_coco_file_is_read_or_named(folder: Path, content: bytes) -> None:
    check_coco(folder, content)


@fuzz(400)
@given(content=changed_labels() | changed_bytes(LABELS.encode()))
def test_a_damaged_label_file_is_read_or_every_line_named(folder: Path, content: bytes) -> None:
    path = folder / "training/label_2/000000.txt"
    path.write_bytes(content)
    report = scan_tree(folder)
    for problem in report.problems:
        assert str(path) in problem and "Fix: " in problem and "\n" not in problem
    if not report.problems:
        assert_valid([frame_to_dict(frame, PRESETS["kitti7"]) for frame in report.frames], 7)


def test_the_valid_files_are_read(folder: Path) -> None:
    check_coco(folder, json.dumps(CONTENT).encode())
    _, dicts = read_coco_json(folder / "labels.json", folder)
    assert [len(record["annotations"]) for record in dicts] == [2, 3]
    (folder / "training/label_2/000000.txt").write_text(LABELS)
    report = scan_tree(folder)
    assert not report.problems and len(report.frames[0].objects) == 3
