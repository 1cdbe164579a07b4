import copy

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

from projects.clockdistill.data.image_header import ImageError
from projects.clockdistill.data.mapper import DetrMapper


@pytest.fixture
def record(tmp_path) -> dict:
    """An image of 100 x 60, red on its left half, green on its right; one box in each."""
    pixels = np.zeros((60, 100, 3), dtype=np.uint8)
    pixels[:, :50, 0] = 200
    pixels[:, 50:, 1] = 100
    Image.fromarray(pixels).save(tmp_path / "a.png")

    def box(x0, y0, width, height, category, iscrowd=0):
        return {
            "bbox": [x0, y0, width, height],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": category,
            "iscrowd": iscrowd,
        }

    return {
        "file_name": str(tmp_path / "a.png"),
        "image_id": 7,
        "height": 60,
        "width": 100,
        "annotations": [box(10, 10, 20, 30, 3), box(60, 20, 30, 10, 5), box(0, 0, 90, 50, 1, 1)],
    }


def test_an_unchanged_image_keeps_pixels_and_boxes(record):
    before = copy.deepcopy(record)
    mapped = DetrMapper([])(record)
    assert record == before
    assert mapped["image"].shape == (3, 60, 100) and mapped["image"].dtype == torch.uint8
    assert mapped["image"][:, 0, 0].tolist() == [200, 0, 0]
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[10, 10, 30, 40], [60, 20, 90, 30]]
    assert mapped["instances"].gt_boxes.tensor.dtype == torch.float32
    assert mapped["instances"].gt_classes.tolist() == [3, 5]  # the crowd box is no target
    assert mapped["instances"].image_size == (60, 100)
    assert {key: mapped[key] for key in ("file_name", "image_id", "height", "width")} == {
        key: before[key] for key in ("file_name", "image_id", "height", "width")
    }
    assert "annotations" not in mapped


def test_a_flip_mirrors_image_and_boxes(record):
    mapped = DetrMapper([T.RandomFlip(prob=1.0)])(record)
    assert mapped["image"][:, 0, 0].tolist() == [0, 100, 0]
    # x -> 100 - x: 10..30 -> 70..90, 60..90 -> 10..40
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[70, 10, 90, 40], [10, 20, 40, 30]]


def test_a_resize_scales_the_boxes_and_keeps_the_original_size(record):
    mapped = DetrMapper([T.ResizeShortestEdge(30, max_size=1000)])(record)
    assert mapped["image"].shape == (3, 30, 50)
    assert mapped["instances"].gt_boxes.tensor[0].tolist() == [5, 5, 15, 20]
    assert (mapped["height"], mapped["width"]) == (60, 100)


def test_a_crop_clips_boxes_and_drops_those_outside(record):
    class CropLeft(T.Augmentation):
        def get_transform(self, image):
            return T.CropTransform(0, 0, 25, 25)

    mapped = DetrMapper([CropLeft()])(record)
    assert mapped["image"].shape == (3, 25, 25)
    # 10..30 x 10..40 is cut at 25, 60..90 lies outside
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[10, 10, 25, 25]]
    assert mapped["instances"].gt_classes.tolist() == [3]


def test_each_augmentation_is_used_half_of_the_time(record):
    np.random.seed(0)
    mapper = DetrMapper([], [T.ResizeShortestEdge(30, max_size=1000)])
    heights = [mapper(record)["image"].shape[1] for _ in range(400)]
    # binomial(400, 1/2): standard deviation 10
    assert set(heights) == {30, 60} and abs(heights.count(30) - 200) < 50


@pytest.mark.parametrize("augmentations", [([],), ([T.RandomFlip(prob=1.0)],), ([], [])])
@pytest.mark.parametrize("annotations", [[], None])
def test_an_image_without_objects_has_empty_instances(record, augmentations, annotations):
    if annotations is None:
        del record["annotations"]
    else:
        record["annotations"] = annotations
    instances = DetrMapper(*augmentations)(record)["instances"]
    assert len(instances) == 0
    assert instances.gt_boxes.tensor.shape == (0, 4)
    assert instances.gt_classes.dtype == torch.int64


def test_evaluation_images_have_no_targets(record):
    mapped = DetrMapper([], is_train=False)(record)
    assert "instances" not in mapped and "annotations" not in mapped


def test_a_missing_image_is_named(record):
    record["file_name"] = "nowhere/b.png"
    with pytest.raises(FileNotFoundError, match=r"nowhere/b\.png"):
        DetrMapper([])(record)


@pytest.mark.parametrize("kept", [0.0, 0.6])
def test_an_unreadable_or_truncated_image_is_named(record, kept):
    path = record["file_name"]
    Image.effect_noise((100, 60), 50).convert("RGB").save(path)
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"unreadable image .*a\.png"):
        DetrMapper([])(record)


def test_an_image_of_unexpected_size_is_named(record):
    record["width"] = 99
    with pytest.raises(ValueError, match=r"a\.png"):
        DetrMapper([])(record)


def test_bad_images_are_skipped_by_choice_and_counted_in_the_log(record, caplog):
    mapper = DetrMapper([], skip_bad_images=True)
    assert mapper(record)["image"].shape == (3, 60, 100)
    for count in (1, 2):
        assert mapper({**record, "file_name": "nowhere/b.png"}) is None
        assert f"skipped, number {count} of this process: image nowhere/b.png" in caplog.text
    with pytest.raises(ImageError, match="b.png does not exist"):
        DetrMapper([], is_train=False, skip_bad_images=True)({"file_name": "nowhere/b.png"})
