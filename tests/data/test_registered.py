"""Files registered as COCO are checked like those of the custom configs, and not changed."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from projects.clockdistill.data.registered import (
    check_registered_file,
    loader_refusals,
    registered_file,
)

NAME = "registered_test"


@pytest.fixture
def register(tmp_path):
    """Returns a function that registers content as COCO and returns the dataset's name."""

    def write(content) -> str:
        path = tmp_path / "instances.json"
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        path.write_bytes(data)
        register_coco_instances(NAME, {}, str(path), str(tmp_path))
        return NAME

    yield write
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def content(image=(), category=(), annotation=()) -> dict:
    """One image, one class, one box that overhangs; with the changes given."""
    image = {"id": 1, "file_name": "a.png", "width": 64, "height": 48, **dict(image)}
    category = {"id": 1, "name": "car", "supercategory": None, **dict(category)}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [50, 6, 20, 10], "iscrowd": None}
    return {
        "images": [image],
        "categories": [category],
        "annotations": [{**box, **dict(annotation)}],
    }


def load(name: str) -> list[dict]:
    """Loads a dataset as the check before training does."""
    check_registered_file(registered_file(name))
    with loader_refusals([name]):
        return DatasetCatalog.get(name)


def test_the_loader_of_detectron2_decides_the_boxes(register):
    (record,) = load(register(content()))
    assert record["annotations"][0]["bbox"] == [50, 6, 20, 10]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (content(image={"width": None}), r"images\[0\] \(id 1\) has no 'width'"),
        (content(image={"width": "64"}), r"images\[0\] \(id 1\) has width \"64\""),
        (content(image={"file_name": None}), "has no 'file_name'"),
        (content(image={"id": [1]}), r"has id \[1\]"),
        (content(category={"id": True}), r"categories\[0\] \(id true\) has id true"),
        (content(annotation={"id": None}), r"annotations\[0\] has no 'id'"),
        (content(annotation={"bbox": None}), "has no 'bbox'.*derives"),
        (content(annotation={"bbox": []}), r"has bbox \[\]\. Fix: set bbox to \[left"),
        (content(annotation={"bbox": [1, 2, "3", 4]}), "has bbox"),
        (content(annotation={"category_id": 2}), "has category_id 2. Fix: use an id of"),
        (content(annotation={"ignore": 1}), "has ignore 1. Fix: set iscrowd"),
        (content(annotation={"segmentation": [1, 2, 3, 4, 5, 6]}), "loader refuses .*TypeError"),
        (b"\xef\xbb\xbf" + json.dumps(content()).encode(), "utf-8-sig.*byte-order mark"),
        (b"", "is empty"),
    ],
)
def test_content_that_detectron2_cannot_load_is_named(register, changed, message):
    with pytest.raises(ValueError, match=message) as raised:
        load(register(changed))
    assert "\n" not in str(raised.value) and "Fix: " in str(raised.value)


def test_ids_that_cannot_be_sorted_or_tell_objects_apart_are_named(register):
    mixed = content()
    mixed["images"].append({**mixed["images"][0], "id": "1"})
    name = register(mixed)
    with pytest.raises(ValueError, match="'images' are texts and some are numbers"):
        load(name)
    twice = content()
    twice["annotations"] *= 2
    path = MetadataCatalog.get(name).json_file
    with open(path, "w") as file:
        json.dump(twice, file)
    with pytest.raises(ValueError, match="several annotations have the id 1"):
        load(name)
