"""Tests that box AP equals that of pycocotools to 1e-9."""

import contextlib
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from projects.clockdistill.evaluation.coco import (
    CocoEvaluator,
    box_average_precision,
    load_ground_truth,
)
from tests.tiny_run import OracleDetector, register_drawings

_NAMES = {3: "car", 5: "tram", 9: "van"}  # ids with gaps, as COCO's own


def _scene(seed: int, images: int, objects: int, detections: int) -> tuple[dict, list[dict]]:
    """Random boxes of all sizes, a fifth of them crowds, and detections near some of them."""
    rng = np.random.default_rng(seed)
    annotations = []
    for index in range(images):
        for _ in range(rng.integers(0, objects + 1)):
            width, height = np.exp(rng.uniform(1, 6, 2))
            box = [*rng.uniform(0, 400, 2).tolist(), float(width), float(height)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": int(rng.choice(list(_NAMES))),
                    "bbox": box,
                    "area": float(width * height * rng.uniform(0.5, 1.0)),
                    "iscrowd": int(rng.random() < 0.2),
                }
            )
    found = []
    for _ in range(detections):
        if annotations and rng.random() < 0.7:
            near = annotations[rng.integers(len(annotations))]
            box = (np.array(near["bbox"]) * rng.uniform(0.85, 1.15, 4)).tolist()
            image, category = near["image_id"], near["category_id"]
        else:
            box = [*rng.uniform(0, 400, 2).tolist(), *rng.uniform(1, 200, 2).tolist()]
            image, category = int(rng.integers(images)), int(rng.choice(list(_NAMES)))
        score = round(float(rng.random()), 2)  # with ties
        found.append({"image_id": image, "category_id": category, "bbox": box, "score": score})
    ground_truth = {
        "info": {},
        "images": [{"id": index, "width": 640, "height": 480} for index in range(images)],
        "categories": [{"id": id_, "name": name} for id_, name in _NAMES.items()],
        "annotations": annotations,
    }
    return ground_truth, found


def _reference(ground_truth: dict, detections: list[dict]) -> dict[str, float]:
    """The same figures by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(ground_truth))
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(json.loads(json.dumps(detections))), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    figures = dict(zip(names, evaluation.stats.tolist(), strict=False))
    for index, name in enumerate(_NAMES.values()):
        precision = evaluation.eval["precision"][:, :, index, 0, 2]
        figures[f"AP-{name}"] = precision[precision > -1].mean() if precision.max() > -1 else -1
    return {name: math.nan if value < 0 else 100 * value for name, value in figures.items()}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    images=st.integers(1, 6),
    objects=st.integers(0, 8),
    detections=st.integers(1, 60) | st.integers(300, 500),  # more than count in one image
)
def test_equals_pycocotools(seed: int, images: int, objects: int, detections: int) -> None:
    ground_truth, found = _scene(seed, images, objects, detections)
    ours = box_average_precision(ground_truth, found, _NAMES)
    reference = _reference(ground_truth, found)
    assert ours.keys() == reference.keys()
    np.testing.assert_allclose(list(ours.values()), list(reference.values()), rtol=0, atol=1e-9)


def test_no_detection_at_all_is_zero_and_no_object_is_no_number() -> None:
    ground_truth, _ = _scene(seed=1, images=1, objects=0, detections=0)
    assert all(
        math.isnan(value) for value in box_average_precision(ground_truth, [], _NAMES).values()
    )
    ground_truth["annotations"] = [
        {"id": 1, "image_id": 0, "category_id": 3, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}
    ]
    metrics = box_average_precision(ground_truth, [], _NAMES)
    assert [metrics[key] for key in ("AP", "AP50", "AP75", "APs", "AP-car")] == [0.0] * 5
    assert math.isnan(metrics["APl"]) and math.isnan(metrics["AP-van"])


def test_detection_in_an_unknown_image_is_refused() -> None:
    ground_truth, _ = _scene(seed=1, images=1, objects=2, detections=0)
    stray = {"image_id": 99, "category_id": 3, "bbox": [0, 0, 9, 9], "score": 0.5}
    with pytest.raises(ValueError, match=r"\[99\]\.\nFix: give dataloader\.evaluator"):
        box_average_precision(ground_truth, [stray], _NAMES)


def _evaluate(name: str, output_dir: Path | None = None, shift: int = 0) -> dict[str, float]:
    evaluator = CocoEvaluator(name, str(output_dir) if output_dir else None)
    evaluator.reset()
    detector = OracleDetector(name, shift)
    for record in DatasetCatalog.get(name):
        image = {key: record[key] for key in ("image_id", "height", "width")}
        evaluator.process([image], detector([image]))
    return evaluator.evaluate()["bbox"]


def test_perfect_detector_scores_a_hundred(tmp_path: Path) -> None:
    name = register_drawings("drawings_val", tmp_path / "images")
    metrics = _evaluate(name, tmp_path / "out")
    assert metrics["AP"] == pytest.approx(100.0)
    assert metrics["AP-red"] == metrics["AP-green"] == pytest.approx(100.0)
    written = json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
    assert written[0].keys() == {"image_id", "category_id", "bbox", "score"}
    assert _evaluate(name, shift=1)["AP"] < 50.0


def test_changed_dataset_of_the_same_name_is_measured_again(tmp_path: Path) -> None:
    name = register_drawings("drawings_val", tmp_path / "images", seed=0)
    _evaluate(name, tmp_path / "out")
    register_drawings(name, tmp_path / "images", seed=1)
    assert _evaluate(name, tmp_path / "out")["AP"] == pytest.approx(100.0)


def test_json_file_with_gaps_in_its_ids_and_fields_left_out(tmp_path: Path) -> None:
    name = "fake_json"
    content = {
        "images": [{"id": 7, "width": 64, "height": 48, "file_name": "a.png"}],
        "categories": [{"id": 3, "name": "car"}, {"id": 9, "name": "van"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 9, "bbox": [5, 6, 20, 10]}],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    if name in MetadataCatalog.list():
        MetadataCatalog.remove(name)
    MetadataCatalog.get(name).set(
        json_file=str(path),
        thing_classes=["car", "van"],
        thing_dataset_id_to_contiguous_id={3: 0, 9: 1},
    )
    annotation = load_ground_truth(name)["annotations"][0]
    assert (annotation["area"], annotation["iscrowd"]) == (200, 0)
    evaluator = CocoEvaluator(name)
    evaluator.reset()
    found = Instances(
        (48, 64),
        pred_boxes=Boxes(torch.tensor([[5.0, 6.0, 25.0, 16.0]])),
        scores=torch.tensor([0.8]),
        pred_classes=torch.tensor([1]),
    )
    evaluator.process([{"image_id": 7}], [{"instances": found}])
    metrics = evaluator.evaluate()["bbox"]
    assert metrics["AP-van"] == pytest.approx(100.0)
    assert math.isnan(metrics["AP-car"])


def test_json_file_without_annotations_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.json"
    path.write_text(json.dumps({"images": []}))
    MetadataCatalog.get("fake_test_json").set(json_file=str(path), thing_classes=["car"])
    with pytest.raises(ValueError, match=r"test\.json has no 'annotations'"):
        CocoEvaluator("fake_test_json")
    MetadataCatalog.remove("fake_test_json")
