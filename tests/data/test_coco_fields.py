"""Fields of COCO files: null, text, lists or nothing where another value belongs."""

import codecs
import json

import pytest
from PIL import Image
from pycocotools import mask

from projects.clockdistill.data.coco_json import coco_json_dicts, read_coco_json


@pytest.fixture
def read(tmp_path):
    """Returns a function that changes entries of a valid file and reads it."""
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")

    def write_and_read(image=(), category=(), annotation=(), encode=str.encode):
        content = {
            "images": [{"id": 3, "file_name": "a.png", "width": 40, "height": 30} | dict(image)],
            "categories": [{"id": 4, "name": "cat", "supercategory": []} | dict(category)],
            "annotations": [
                {"id": 5, "image_id": 3, "category_id": 4, "bbox": [1, 2, 10, 20]}
                | dict(annotation)
            ],
        }
        (tmp_path / "labels.json").write_bytes(encode(json.dumps(content)))
        categories, dicts = read_coco_json(tmp_path / "labels.json", tmp_path)
        return categories, dicts[0]

    return write_and_read


NAN = float("nan")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": {"width": "40"}}, r'images[0] (id 3) has width "40". Fix: set width to a posit'),
        ({"image": {"width": 0}}, "has width 0. Fix"),
        ({"image": {"height": [30]}}, "has height [30]"),
        ({"image": {"height": 30.5}}, "has height 30.5"),
        ({"image": {"height": True}}, "has height true"),
        ({"image": {"file_name": None}}, "images[0] (id 3) has no 'file_name'. Fix: set file_name"),
        ({"image": {"file_name": ["a.png"]}}, 'has file_name ["a.png"]'),
        ({"image": {"file_name": ""}}, 'has file_name ""'),
        ({"image": {"file_name": "a\0.png"}}, "has file_name"),
        ({"image": {"file_name": "\ud800.png"}}, "has file_name"),
        ({"image": {"id": None}}, "images[0] has no 'id'"),
        ({"image": {"id": [3]}}, "has id [3]"),
        ({"image": {"id": True}}, "has id true"),
        ({"image": {"id": NAN}}, "has id NaN"),
        ({"category": {"id": {}}}, "has id {}"),
        ({"category": {"id": NAN}}, "has id NaN"),
        ({"category": {"name": None}}, "categories[0] (id 4) has no 'name'"),
        ({"category": {"name": ["cat"]}}, 'has name ["cat"]'),
        ({"annotation": {"image_id": None}}, "annotations[0] (id 5) has no 'image_id'"),
        (
            {"annotation": {"image_id": "3"}},
            """has image_id "3", which is no id of 'images'. Fix: u""",
        ),
        ({"annotation": {"category_id": [4]}}, "has category_id [4]"),
        ({"annotation": {"bbox": None}}, "has no 'bbox' and no segmentation. Fix: set bbox to [l"),
        ({"annotation": {"bbox": "1 2 3 4"}}, 'has bbox "1 2 3 4". Fix: set bbox to [left, top'),
        ({"annotation": {"bbox": [1, 2, NAN, 4]}}, "has bbox [1, 2, NaN, 4]"),
        ({"annotation": {"bbox": [1, 2, True, 4]}}, "has bbox [1, 2, true, 4]"),
        ({"annotation": {"bbox": [1, 2, 2e9, 4]}}, "has bbox [1, 2, 2000000000.0, 4]"),
        ({"annotation": {"iscrowd": "0"}}, 'has iscrowd "0". Fix: set iscrowd to 0 or 1'),
        ({"annotation": {"iscrowd": [0]}}, "has iscrowd [0]"),
        ({"annotation": {"iscrowd": 2}}, "has iscrowd 2"),
        ({"annotation": {"area": "5"}}, 'has area "5"'),
        ({"annotation": {"area": -1}}, "has area -1"),
        (
            {"annotation": {"bbox": None, "segmentation": [[1, 2, 3]]}},
            "has no 'bbox' and an invalid segmentation",
        ),
        (
            {"annotation": {"bbox": None, "segmentation": {"size": [30, 40], "counts": "zz"}}},
            "an invalid segmentation",
        ),
        (
            {"annotation": {"bbox": None, "segmentation": {"size": [30, 40], "counts": [5, 6]}}},
            "an invalid segmentation",
        ),
    ],
)
def test_a_wrong_value_is_one_line_with_entry_field_and_fix(read, tmp_path, changes, message):
    with pytest.raises(ValueError) as raised:
        read(**changes)
    text = str(raised.value)
    assert text.startswith(f"{tmp_path / 'labels.json'}: ") and message in text
    assert "Fix: " in text and "\n" not in text


def test_null_is_as_if_left_out(read):
    _, record = read(
        image={"width": None, "height": None, "date": None},
        annotation={"iscrowd": None, "area": None, "id": None, "segmentation": None},
    )
    assert (record["width"], record["height"]) == (40, 30)
    (item,) = record["annotations"]
    assert item["iscrowd"] == 0 and "area" not in item


def test_whole_numbers_and_bools_are_read_as_what_they_mean(read):
    _, record = read(image={"width": 40.0}, annotation={"iscrowd": True, "area": 7})
    assert type(record["width"]) is int
    assert record["annotations"][0]["iscrowd"] == 1 and record["annotations"][0]["area"] == 7


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: f"\n {text}\n".encode(),
    ],
)
def test_a_byte_order_mark_is_accepted(read, encode):
    assert read(encode=encode)[0] == {4: "cat"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\n ", "is empty"),
        (b"{", "is not valid JSON"),
        (b"\x89PNG\r\n\x1a\n\xff", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"7", "holds 7, no object"),
        (b'{"images": null}', "has no list 'images'"),
        (b'{"images": [7]}', r"images\[0\] is 7\. Fix: write an object"),
    ],
)
def test_files_of_other_content_are_named(read, data, message):
    with pytest.raises(ValueError, match=message) as raised:
        read(encode=lambda text: data)
    assert "labels.json" in str(raised.value) and "Fix: " in str(raised.value)


@pytest.mark.parametrize(
    ("names", "json_file", "message"),
    [
        ("custom_train", ["a.json", "b.json"], "several JSON files must be merged into one"),
        ("custom_val", None, r"'custom_val' has no json_file.*test\.dataset\.json_file=.*a tenth"),
        ("custom_val", 7, "json_file is 7, expected one path"),
        (["a", "b"], "a.json", r"names is \['a', 'b'\], expected one name"),
    ],
)
def test_paths_that_are_no_path_are_named(tmp_path, names, json_file, message):
    with pytest.raises(ValueError, match=message):
        coco_json_dicts(names, json_file, str(tmp_path))


def test_a_folder_as_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="is a folder. Fix: give a COCO JSON file"):
        coco_json_dicts("custom_train", str(tmp_path), str(tmp_path))


def test_boxes_that_overhang_are_clipped_and_keep_their_numbers_in_another_key(read):
    _, record = read(annotation={"bbox": [-5, 25.5, 15.25, 10]})
    (item,) = record["annotations"]
    assert item["bbox"] == [0, 25.5, 10.25, 4.5]
    assert item["unclipped_bbox"] == [-5, 25.5, 15.25, 10]
    _, record = read(annotation={"bbox": [0.1, 0.1, 39.9, 29.9]})  # 0.1 + 39.9 is 40.0
    assert record["annotations"][0]["bbox"] == [0.1, 0.1, 39.9, 29.9]


RUNS = {"size": [30, 40], "counts": [30 + 4, 6, 30 - 6, 8, 40 * 30 - 72]}  # columns 1 and 2


@pytest.mark.parametrize(
    ("segmentation", "box"),
    [
        ([[4, 5, 14, 5, 14, 25.5]], [4, 5, 10, 20.5]),
        ([[4, 5, 14, 5, 14, 25], [20, 1, 22, 1, 21, 9]], [4, 1, 18, 24]),
        (RUNS, mask.toBbox(mask.frPyObjects(RUNS, 30, 40)).tolist()),
        (
            {"size": [30, 40], "counts": mask.frPyObjects(RUNS, 30, 40)["counts"].decode()},
            [1, 4, 2, 8],
        ),
    ],
)
def test_a_missing_box_is_that_of_the_segmentation(read, segmentation, box):
    _, record = read(annotation={"bbox": None, "segmentation": segmentation})
    assert record["annotations"][0]["bbox"] == box


def test_ids_of_any_kind_are_kept_and_sorted(read):
    categories, record = read(
        image={"id": "im_1"},
        category={"id": 1.5},
        annotation={"image_id": "im_1", "category_id": 1.5},
    )
    assert categories == {1.5: "cat"} and record["image_id"] == "im_1"
    assert record["annotations"][0]["category_id"] == 0
