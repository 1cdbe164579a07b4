"""Tests what the check of a dataset finds in image files, counts and remembers."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from detectron2.structures import BoxMode
from PIL import ExifTags, Image

from projects.clockdistill.data import dataset_check
from projects.clockdistill.data.dataset_check import DatasetReport, check_dataset

METADATA = SimpleNamespace(thing_classes=["bolt", "nut"])


def rows(report: DatasetReport) -> dict[str, list[str]]:
    """Returns the table as first cell -> other cells."""
    lines = [line.strip("|").split("|") for line in report.table.splitlines()]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def box(category: int, xyxy: list[float], iscrowd: int = 0) -> dict:
    return {
        "bbox": xyxy,
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": category,
        "iscrowd": iscrowd,
    }


@pytest.fixture
def dicts(tmp_path: Path) -> list[dict]:
    """Four images of 200 x 150 and one of 150 x 200, without objects."""
    rng = np.random.default_rng(0)
    records = []
    for index in range(5):
        width, height = (200, 150) if index < 4 else (150, 200)
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        path = tmp_path / f"{index}.jpg"
        Image.fromarray(pixels).save(path)
        record = {"file_name": str(path), "image_id": index, "width": width, "height": height}
        records.append(record | {"annotations": [box(0, [0, 0, 20, 20])] if index < 4 else []})
    return records


def check(dicts: list[dict], **kwargs: object) -> DatasetReport:
    return check_dataset(dicts, METADATA, "training: mine", **kwargs)


def test_the_table_counts_images_objects_and_sizes(dicts) -> None:
    # 40 x 40 = 1600 is medium; 120 x 150 inside the image is large; the crowd box is no object
    dicts[0]["annotations"] += [box(1, [0, 0, 40, 40]), box(1, [80, 0, 300, 150])]
    dicts[1]["annotations"] += [box(0, [0, 0, 20, 20], iscrowd=1)]
    table = rows(check(dicts))
    assert next(iter(table)) == "training: mine"
    assert table["images"][0] == "5"
    assert table["images without objects"][0] == "1"
    assert table["objects"] == ["6", "4", "4", "1", "1"]
    assert table["- bolt"] == ["4", "4", "4", "0", "0"]
    assert table["- nut"] == ["2", "1", "0", "1", "1"]
    assert table["images of 200 x 150"][0] == "4"
    assert table["images of 150 x 200"][0] == "1"
    assert table["crowd boxes, not trained on"][0] == "1"
    assert table["boxes clipped to their image"][0] == "1"


def test_objects_beyond_the_queries_are_a_warning(dicts) -> None:
    dicts[0]["annotations"] += [box(1, [0, 0, 40, 40])] * 3
    assert not any("queries" in warning for warning in check(dicts, queries=4).warnings)
    assert any(
        "1 objects cannot be matched" in warning for warning in check(dicts, queries=3).warnings
    )


def test_every_bad_file_is_an_error_of_one_line(dicts, tmp_path) -> None:
    files = [Path(record["file_name"]) for record in dicts]
    files[0].write_bytes(files[0].read_bytes()[:-100])
    files[1].write_text("<html>")
    files[2].unlink()
    Image.fromarray(np.zeros((150, 200), np.int32)).save(tmp_path / "deep.tif")
    dicts[3]["file_name"] = str(tmp_path / "deep.tif")
    dicts[4]["width"] = 151
    errors = check(dicts).errors
    parts = [
        "0.jpg: image file is truncated",
        "1.jpg: it is an HTML page",
        "2.jpg does not exist",
        "deep.tif has 32 bits per channel (mode I)",
        "4.jpg is 150 x 200, but its annotations",
    ]
    for error, part in zip(errors, parts, strict=True):
        assert part in error and len(error.splitlines()) == 1


def test_files_that_end_well_are_decoded_on_request_alone(dicts) -> None:
    path = Path(dicts[0]["file_name"]).with_suffix(".png")
    Image.open(dicts[0]["file_name"]).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    dicts[0]["file_name"] = str(path)
    assert not check(dicts).errors
    assert "unreadable image" in check(dicts, decode=True).errors[0]


def test_a_file_with_bytes_behind_its_end_is_read(dicts) -> None:
    with open(dicts[0]["file_name"], "ab") as file:
        file.write(b"trailer of a camera")
    assert not check(dicts).errors


def test_bad_images_are_left_out_by_choice_and_counted(dicts) -> None:
    Path(dicts[0]["file_name"]).write_bytes(b"")
    report = check(dicts, skip_bad_images=True)
    assert not report.errors
    assert [tuple(pair) for pair in report.left_out] == [(dicts[0]["file_name"], 0)]
    assert rows(report)["images"][0] == "4"
    assert rows(report)[dataset_check.SKIPPED][0] == "1"
    assert any("0.jpg: it is empty" in warning for warning in report.warnings)
    for record in dicts:
        Path(record["file_name"]).write_bytes(b"")
    assert "none of the 5 images" in check(dicts, skip_bad_images=True).errors[0]


def test_rotated_photographs_are_counted_by_what_their_sizes_say(dicts) -> None:
    exif = Image.Exif()
    for record, orientation in zip(dicts, (6, 6, 3), strict=False):
        exif[ExifTags.Base.Orientation] = orientation
        Image.open(record["file_name"]).save(record["file_name"], exif=exif)
    dicts[0].update(width=150, height=200)  # as displayed; the second as stored
    report = check(dicts)
    assert not report.errors
    assert rows(report)[dataset_check.TURNED][0] == "2"
    assert rows(report)[dataset_check.NOT_TURNED][0] == "1"
    assert any("1 others are turned by 180 degrees" in warning for warning in report.warnings)


def test_a_dataset_that_passed_is_remembered_until_a_file_or_a_setting_changes(
    dicts, monkeypatch
) -> None:
    first = check(dicts, queries=10)
    calls = []
    original = dataset_check.check_image
    monkeypatch.setattr(
        dataset_check,
        "check_image",
        lambda path, *args, **kwargs: calls.append(path) or original(path, *args, **kwargs),
    )
    assert check(dicts, queries=10) == first
    assert calls == []
    check(dicts, queries=11)
    check(dicts, queries=10, decode=True)
    assert len(calls) == 10
    check(dicts, queries=11, decode=True)
    os.utime(dicts[2]["file_name"], ns=(1, 1))
    calls.clear()
    check(dicts, queries=10)
    assert len(calls) == 5
    dicts[0]["annotations"][0]["category_id"] = 1
    check(dicts, queries=10)
    assert len(calls) == 10
    Path(dicts[0]["file_name"]).write_bytes(b"")
    for _ in range(2):  # what failed is not remembered
        assert check(dicts, queries=10).errors


def test_a_decoded_dataset_needs_no_check_of_its_headers(dicts, monkeypatch) -> None:
    first = check(dicts, decode=True)
    monkeypatch.setattr(dataset_check, "check_image", None)
    assert check(dicts) == first


def test_a_memory_that_cannot_be_read_or_written_is_none(dicts, monkeypatch, tmp_path) -> None:
    from projects.clockdistill.data import passed_checks

    first = check(dicts)
    (file,) = passed_checks.folder().glob("*.json")
    file.write_bytes(b"\x80cposix\nsystem\n")
    assert check(dicts) == first
    monkeypatch.setattr(passed_checks, "folder", lambda: Path(dicts[0]["file_name"]) / "no")
    assert check(dicts) == first
