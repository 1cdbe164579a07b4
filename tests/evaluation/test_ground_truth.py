"""Ground truth of every route: ids of any kind, boxes at the edge of an image, areas."""

import json
import math
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, BoxMode, Instances
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from projects.clockdistill.data.coco_json import coco_json_dicts
from projects.clockdistill.evaluation.coco import CocoEvaluator

NAME = "ground_truth_test"
SIZE = (64, 48)


@pytest.fixture(autouse=True)
def _forget():
    yield
    if NAME in DatasetCatalog:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)


def coco(annotations: list[dict], images=(1,), categories=(1,)) -> dict:
    """COCO content; an annotation's image and category are the first unless it names others."""
    defaults = {"image_id": images[0], "category_id": categories[0]}
    width, height = SIZE
    return {
        "images": [
            {"id": id_, "file_name": f"{number}.png", "width": width, "height": height}
            for number, id_ in enumerate(images)
        ],
        "categories": [
            {"id": id_, "name": f"class {number}"} for number, id_ in enumerate(categories)
        ],
        "annotations": [
            {"id": number, **defaults, **annotation}
            for number, annotation in enumerate(annotations, start=1)
        ],
    }


def load(route: str, content: dict, folder: Path) -> list[dict]:
    """Loads COCO content by a route: the custom config, registered as COCO, or as a function."""
    for image in content["images"]:
        Image.new("RGB", SIZE).save(folder / image["file_name"])
    path = folder / "labels.json"
    path.write_text(json.dumps(content))
    if route == "config":
        return coco_json_dicts(NAME, str(path), str(folder))
    if route == "registered":
        register_coco_instances(NAME, {}, str(path), str(folder))
    else:
        register_coco_instances("of_the_file", {}, str(path), str(folder))
        dicts = DatasetCatalog.get("of_the_file")
        classes = MetadataCatalog.get("of_the_file").thing_classes
        DatasetCatalog.remove("of_the_file")
        MetadataCatalog.remove("of_the_file")
        DatasetCatalog.register(NAME, lambda: dicts)
        MetadataCatalog.get(NAME).set(thing_classes=classes, evaluator_type="coco")
    return DatasetCatalog.get(NAME)


def evaluate(
    dicts: list[dict], folder: Path, shift: float = 0.0, left_out: Collection = ()
) -> tuple[dict, list[dict]]:
    """Evaluates a detector that finds all objects, clipped to their image and moved by `shift`."""
    evaluator = CocoEvaluator(NAME, str(folder / "out"), left_out)
    evaluator.reset()
    for record in dicts:
        items = [item for item in record["annotations"] if not item.get("iscrowd")]
        boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in items]
        found = Boxes(torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4) + shift)
        found.clip((record["height"], record["width"]))
        output = Instances(
            (record["height"], record["width"]),
            pred_boxes=found,
            scores=torch.linspace(0.9, 0.5, len(items)),
            pred_classes=torch.tensor([item["category_id"] for item in items], dtype=torch.long),
        )
        evaluator.process([{"image_id": record["image_id"]}], [{"instances": output}])
    metrics = evaluator.evaluate()["bbox"]
    return metrics, json.loads((folder / "out/coco_instances_results.json").read_text())


def pycocotools_figures(path: Path, detections: list[dict]) -> list[float]:
    truth = COCO(str(path))
    for annotation in truth.dataset["annotations"]:  # COCO's rule for files without areas
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
        annotation.setdefault("iscrowd", 0)
    evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [100 * value if value >= 0 else math.nan for value in evaluation.stats[:6].tolist()]


@pytest.mark.parametrize(
    "ids",
    [
        ("im_1", "im_2", "7"),
        (1, 1.5, 1.25),  # one number for int()
        (10**20, -(10**20), 10**20 + 1),  # one number for float()
        (0, "0", -1),
        (2**31, 2**63, 2**64),
    ],
)
def test_ids_of_any_kind_stay_apart_and_are_in_the_results_file(tmp_path, ids):
    box, other = [4, 4, 20, 20], [30, 10, 24, 30]
    content = coco(
        [
            {"image_id": ids[0], "category_id": ids[2], "bbox": box},
            {"image_id": ids[1], "category_id": ids[0], "bbox": other},
            {"image_id": ids[2], "category_id": ids[1], "bbox": other},
        ],
        images=ids,
        categories=ids,
    )
    metrics, written = evaluate(load("config", content, tmp_path), tmp_path)
    assert metrics["AP"] == pytest.approx(100)
    assert metrics["AP-class 0"] == pytest.approx(100)
    found = {(x["image_id"], x["category_id"], tuple(x["bbox"])) for x in written}
    assert found == {
        (a["image_id"], a["category_id"], (*a["bbox"],)) for a in content["annotations"]
    }


def test_numpy_ids_of_a_catalog_function(tmp_path):
    dicts = load("function", coco([{"bbox": [4, 4, 20, 20]}]), tmp_path)
    dicts[0]["image_id"] = np.int64(5)
    metrics, written = evaluate(dicts, tmp_path)
    assert metrics["AP"] == pytest.approx(100) and written[0]["image_id"] == 5


OVERHANGING = [
    {"bbox": [-20, -10, 40, 30]},  # half of it outside: IoU with its clipped part 0.33
    {"bbox": [40, 20, 60, 60], "image_id": 2},
    {"bbox": [5, 5, 20, 20], "image_id": 2, "iscrowd": 0, "area": 9.0},
]


@pytest.mark.parametrize("route", ["config", "function"])
def test_boxes_are_clipped_for_evaluation_as_for_training(tmp_path, route):
    dicts = load(route, coco(OVERHANGING, images=(1, 2)), tmp_path)
    assert evaluate(dicts, tmp_path)[0]["AP"] == pytest.approx(100)


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_a_file_registered_as_coco_has_the_figures_of_pycocotools(tmp_path, shift):
    dicts = load("registered", coco(OVERHANGING, images=(1, 2)), tmp_path)
    metrics, written = evaluate(dicts, tmp_path, shift)
    expected = pycocotools_figures(tmp_path / "labels.json", written)
    figures = [metrics[name] for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")]
    np.testing.assert_allclose(figures, expected, rtol=0, atol=1e-9)
    assert metrics["AP"] < 60


@pytest.mark.parametrize("route", ["config", "registered", "function"])
def test_area_is_that_of_the_file_where_it_has_one(tmp_path, route):
    # 40 x 40 pixels are medium, the file's 500 square pixels of the object itself are small
    content = coco([{"bbox": [4, 4, 40, 40], "area": 500}, {"bbox": [4, 4, 30, 30]}])
    dicts = load(route, content, tmp_path)
    if route == "function":  # detectron2's loader does not keep it
        dicts[0]["annotations"][0]["area"] = 500
    metrics, _ = evaluate(dicts, tmp_path)
    assert metrics["APs"] == pytest.approx(100) and math.isnan(metrics["APm"])


def test_a_box_is_derived_from_its_segmentation(tmp_path):
    shape = {"segmentation": [[4, 4, 24, 4, 24, 30]]}
    dicts = load("config", coco([shape]), tmp_path)
    assert dicts[0]["annotations"][0]["bbox"] == [4, 4, 20, 26]
    assert evaluate(dicts, tmp_path)[0]["AP"] == pytest.approx(100)


def test_images_of_one_id_are_refused(tmp_path):
    dicts = load("function", coco([{"bbox": [4, 4, 20, 20]}], images=(1, 2)), tmp_path)
    dicts[1]["image_id"] = 1.0
    with pytest.raises(ValueError, match=r"several images have the image_id 1.*\nFix: "):
        CocoEvaluator(NAME)


def test_images_left_out_are_not_expected(tmp_path):
    boxes = [{"bbox": [4, 4, 20, 20]}, {"bbox": [4, 4, 20, 20], "image_id": "b"}]
    dicts = load("config", coco(boxes, images=("a", "b")), tmp_path)
    assert evaluate(dicts[:1], tmp_path)[0]["AP"] < 60
    assert evaluate(dicts[:1], tmp_path, left_out=["b"])[0]["AP"] == pytest.approx(100)
