import json
import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from projects.clockdistill.data.coco_export import write_coco_json
from projects.clockdistill.data.coco_json import EMPTY, OUTSIDE, coco_json_dicts, read_coco_json

NAME = "coco_json_test"


@pytest.fixture
def dataset(tmp_path):
    """Two images of 40 x 30, one in a subfolder; ids with gaps, one image without objects."""
    (tmp_path / "images/sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        Image.new("RGB", (40, 30)).save(tmp_path / "images" / name)
    return {
        "images": [
            {"id": 20, "file_name": "sub/b.png"},
            {"id": 3, "file_name": "a.png", "width": 40, "height": 30},
        ],
        "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 9, "bbox": [1, 2, 10, 20], "iscrowd": 0},
            {"id": 2, "image_id": 3, "category_id": 4, "bbox": [5.5, 2, 3, 4]},
            {"id": 3, "image_id": 3, "category_id": 4, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        ],
    }


@pytest.fixture
def load(tmp_path):
    """Returns a function that writes content and loads it as the config does."""

    def write_and_load(content) -> list[dict]:
        path = tmp_path / "labels.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return coco_json_dicts(NAME, str(path), str(tmp_path / "images"))

    yield write_and_load
    if NAME in DatasetCatalog:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)


def test_two_paths_register_a_dataset(dataset, load, tmp_path):
    dicts = load(dataset)

    def item(box, category, iscrowd=0):
        return {
            "bbox": box,
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": category,
            "iscrowd": iscrowd,
        }

    assert dicts == [
        {
            "file_name": str(tmp_path / "images/a.png"),
            "image_id": 3,
            "width": 40,
            "height": 30,
            "annotations": [
                item([1, 2, 10, 20], 1),
                item([5.5, 2, 3, 4], 0),
                item([0, 0, 9, 9], 0, 1),
            ],
        },
        {
            "file_name": str(tmp_path / "images/sub/b.png"),
            "image_id": 20,
            "width": 40,  # from the image's header
            "height": 30,
            "annotations": [],
        },
    ]
    metadata = MetadataCatalog.get(NAME)
    assert metadata.thing_classes == ["cat", "dog"]
    assert metadata.thing_dataset_id_to_contiguous_id == {4: 0, 9: 1}
    assert DatasetCatalog.get(NAME) == dicts


def test_registering_a_name_again_replaces_its_files(dataset, load):
    load(dataset)
    dataset["categories"][0]["name"] = "hound"
    load(dataset)
    assert MetadataCatalog.get(NAME).thing_classes == ["cat", "hound"]


def test_empty_and_outside_boxes_are_named_and_dropped(dataset, load, caplog):
    bad = [[1, 1, 0, 5], [1, 1, 5, -2], [40, 1, 5, 5], [-9, 1, 9, 5]]
    for id_, box in enumerate(bad, start=50):
        dataset["annotations"].append({"id": id_, "image_id": 20, "category_id": 4, "bbox": box})
    with caplog.at_level(logging.WARNING):
        dicts = load(dataset)
    assert [len(d["annotations"]) for d in dicts] == [3, 0]
    assert "2 boxes without width or height, dropped" in caplog.text
    assert "2 boxes outside their image, dropped" in caplog.text
    for id_ in range(50, 54):
        assert f"(id {id_}): bbox" in caplog.text
    assert dicts[1]["dropped"] == {EMPTY: 2, OUTSIDE: 2}


def broken(**changes):
    """Returns a function that adds entries to the lists of a dataset, or deletes a list (None)."""

    def change(content):
        for key, entries in changes.items():
            if entries is None:
                del content[key]
            else:
                content[key] = content[key] + entries
        return content

    return change


GOOD_BOX = {"image_id": 3, "category_id": 4, "bbox": [0, 0, 1, 1]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: "{", r"labels\.json is not valid JSON"),
        (lambda content: [], r"holds \[\], no object"),
        (broken(annotations=None), "no list 'annotations'"),
        (broken(images=[{"id": 5}]), r"images\[2\] \(id 5\) has no 'file_name'"),
        (broken(images=[{"id": 3, "file_name": "a.png"}]), "several images have the id 3"),
        (broken(categories=[{"id": 9, "name": "x"}]), "several categories have the id 9"),
        (broken(categories=[{"id": 7, "name": "cat"}]), "two categories have the same name"),
        (
            broken(annotations=[GOOD_BOX | {"id": 8, "image_id": 1}]),
            r"annotations\[3\] \(id 8\) has image_id 1, which is no id of 'images'",
        ),
        (
            broken(annotations=[GOOD_BOX | {"category_id": 1}]),
            r"\[3\] has category_id 1, .*\(4, 9\)",
        ),
        (broken(annotations=[GOOD_BOX | {"bbox": [1, 2, 3]}]), r"has bbox \[1, 2, 3\]\."),
        (broken(annotations=[GOOD_BOX | {"bbox": [1, 2, 3, None]}]), "left, top, width, height"),
        (lambda content: content | {"images": []}, "'images' is empty"),
    ],
)
def test_invalid_content_raises_an_error_that_names_it(dataset, load, change, message):
    with pytest.raises(ValueError, match=message):
        load(change(dataset))


def test_missing_images_are_named_before_training(dataset, load, tmp_path):
    (tmp_path / "images/sub/b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 2 images.*sub/b\.png.*image_root"):
        load(dataset)


def test_missing_paths_raise_errors_that_name_them(tmp_path):
    with pytest.raises(ValueError, match=r"dataloader\.train\.dataset\.json_file=<path>"):
        coco_json_dicts("custom_train", "", "")
    with pytest.raises(ValueError, match=r"dataloader\.test\.dataset\.image_root=<path>"):
        coco_json_dicts("custom_val", "x.json", "")
    with pytest.raises(FileNotFoundError, match=r"absent\.json does not exist"):
        coco_json_dicts(NAME, str(tmp_path / "absent.json"), str(tmp_path))
    (tmp_path / "labels.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="image folder .*nowhere does not exist"):
        coco_json_dicts(NAME, str(tmp_path / "labels.json"), str(tmp_path / "nowhere"))


def test_a_written_file_reads_back_equal(dataset, load, tmp_path):
    dicts = load(dataset)
    path = tmp_path / "out/again.json"
    write_coco_json(path, dicts, ["cat", "dog"], tmp_path / "images")
    categories, again = read_coco_json(path, tmp_path / "images")
    for annotation in again[0]["annotations"]:
        del annotation["area"]  # written for other readers, the same as without it
    assert again == dicts
    assert categories == {1: "cat", 2: "dog"}
    assert [a["area"] for a in json.loads(path.read_text())["annotations"]] == [200, 12, 81]
