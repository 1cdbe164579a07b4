"""Statistics of splits: which objects count, and the table."""

import numpy as np
import pytest
from detectron2.structures import BoxMode

from projects.clockdistill.data.annotations import collect_annotations
from projects.clockdistill.data.findings import Findings
from projects.clockdistill.data.statistics import SplitObjects, class_counts, statistics_table


def record(*boxes_xywh: list[float], label: int = 0, crowd: bool = False) -> dict:
    """An image of 200 x 100 pixels with boxes of one class."""
    entries = [
        {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "category_id": label, "iscrowd": int(crowd)}
        for box in boxes_xywh
    ]
    size = {"width": 200, "height": 100}
    return {"file_name": "a.png", "image_id": 1, **size, "annotations": entries}


def objects(*records: dict) -> SplitObjects:
    findings = Findings()
    found = SplitObjects.of(collect_annotations(records, 3, findings))
    assert not findings.errors
    return found


def test_objects_are_what_is_inside_the_image_and_no_crowd() -> None:
    split = objects(
        record([-10, 0, 30, 40], [150, 10, 100, 40], [300, 0, 10, 10]),
        record([0, 0, 50, 50], label=1, crowd=True),
        record([20, 10, 60, 20], label=2),
    )
    # clipped to the image: 20 x 40 and 50 x 40; the third lies outside
    np.testing.assert_array_equal(split.widths_and_heights, [[20, 40], [50, 40], [60, 20]])
    np.testing.assert_array_equal(split.areas, [800, 2000, 1200])
    np.testing.assert_array_equal(split.per_image, [2, 0, 1])
    np.testing.assert_allclose(split.centers, [[0.05, 0.2], [0.875, 0.3], [0.25, 0.2]])
    assert split.crowds == 1
    np.testing.assert_array_equal(class_counts({"a": split}, 3)["a"], [2, 0, 1])


def test_the_table_compares_splits() -> None:
    one = objects(record([0, 0, 10, 10], [0, 0, 100, 97], label=2), record([0, 0, 40, 40]))
    table = statistics_table({"one": one, "other": objects(record())}, ["x", "y", "z"], queries=60)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    found = {name: (first, second) for name, first, second in rows}
    assert found["images"] == ("2", "1")
    assert found["images without objects"] == ("0", "1")
    assert found["objects"] == ("3", "0")
    assert found["most objects in one image (queries: 60)"] == ("2", "0")
    assert found["small, below 32 x 32"] == ("1 (33.3%)", "0")
    assert found["medium"][0] == found["large, above 96 x 96"][0] == "1 (33.3%)"
    assert found["- z"] == ("2 (66.7%)", "0")
    assert list(found).index("- z") < list(found).index("- x") < list(found).index("- y")


@pytest.mark.parametrize("classes", [100, 103])
def test_rare_classes_share_a_row(classes: int) -> None:
    split = objects(record([0, 0, 10, 10]))
    table = statistics_table({"one": split}, [f"class {i}" for i in range(classes)], None)
    assert table.count("- class") == 100
    assert ("3 other classes" in table) == (classes == 103)
