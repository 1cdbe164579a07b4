"""AP on images drawn anew equals the AP of a dataset that holds those images."""

import json

import numpy as np
import pytest

from projects.clockdistill.evaluation.coco import box_average_precision
from reproduction import resampled_ap as module
from reproduction.resampled_ap import cached_resampled_ap, resampled_ap

IMAGES, CLASSES = 12, 3


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch):
    monkeypatch.setattr(module, "DRAWS", 8)


@pytest.fixture
def scene():
    """Ground truth and detections, some of them off, some of the wrong class."""
    generator = np.random.default_rng(5)
    annotations, detections = [], []
    for image in range(IMAGES):
        for _ in range(generator.integers(1, 5)):
            left, top, width, height = generator.uniform(10, 60, size=4)
            label = int(generator.integers(CLASSES))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": label,
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
            seen = label if generator.random() < 0.8 else int(generator.integers(CLASSES))
            box = [left + generator.normal(0, 3), top, width, height * generator.uniform(0.8, 1.2)]
            detections.append(
                {
                    "image_id": image,
                    "category_id": seen,
                    "bbox": box,
                    "score": float(generator.random()),
                }
            )
    images = [{"id": image, "width": 200, "height": 200} for image in range(IMAGES)]
    categories = [{"id": label, "name": str(label)} for label in range(CLASSES)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    return truth, detections


def drawn_dataset(truth, detections, drawn):
    """The images drawn, each under an id of its own."""
    annotations, found = [], []
    for new, old in enumerate(drawn):
        for one in truth["annotations"]:
            if one["image_id"] == old:
                annotations.append({**one, "image_id": new, "id": len(annotations) + 1})
        found += [{**one, "image_id": new} for one in detections if one["image_id"] == old]
    images = [{"id": new, "width": 200, "height": 200} for new in range(len(drawn))]
    return {**truth, "images": images, "annotations": annotations}, found


def test_each_draw_is_the_ap_of_those_images(scene):
    truth, detections = scene
    names = {label: str(label) for label in range(CLASSES)}
    generator = np.random.default_rng(0)
    expected = [
        box_average_precision(
            *drawn_dataset(truth, detections, generator.integers(IMAGES, size=IMAGES)), names
        )["AP"]
        for _ in range(8)
    ]
    assert len(set(expected)) == 8
    np.testing.assert_allclose(resampled_ap(truth, detections), expected, atol=1e-9)


def test_who_found_nothing_finds_nothing_anywhere(scene):
    assert resampled_ap(scene[0], []).tolist() == [0.0] * 8


def test_it_is_worked_out_once_for_a_file(scene, tmp_path):
    truth, detections = scene
    file = tmp_path / "inference" / "found.json"
    assert cached_resampled_ap(lambda: truth, file) is None
    file.parent.mkdir()
    file.write_text(json.dumps(detections))
    first = cached_resampled_ap(lambda: truth, file)
    file.unlink()
    np.testing.assert_array_equal(cached_resampled_ap(pytest.fail, file), first)
