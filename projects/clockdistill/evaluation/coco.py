"""COCO's box AP, by hotcoco: the numbers of pycocotools without detectron2's ops.

Source: https://cocodataset.org/#detection-eval. AP is the mean over IoU 0.50:0.95 and classes.
"""

import itertools
import json
import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import BoxMode, Instances
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from hotcoco import COCO, COCOeval

from projects.clockdistill.data.annotations import inside_image, repeated_ids
from projects.clockdistill.data.coco_content import check_boxes, check_list, id_order, parse_coco
from projects.clockdistill.data.findings import some
from projects.clockdistill.errors import UserError

logger = logging.getLogger(__name__)

# name -> (IoU threshold or None for the mean over all, COCO's object size)
_METRICS = {
    "AP": (None, "all"),
    "AP50": (0.50, "all"),
    "AP75": (0.75, "all"),
    "APs": (None, "small"),
    "APm": (None, "medium"),
    "APl": (None, "large"),
}
# of an annotation or detection; hotcoco checks every field that it is given
_USED = ("bbox", "area", "iscrowd", "score")


class CocoEvaluator(DatasetEvaluator):
    """Collects a detector's boxes over a dataset and computes their COCO AP.

    Args:
        dataset_name: registered in detectron2's catalogs, with `thing_classes`.
        output_dir: folder for the detections (coco_instances_results.json); None writes nothing.
        left_out: ids of images that are not evaluated, because they cannot be read.

    Raises:
        UserError: if images have the same id, or the dataset's file is not in COCO's format.
    """

    def __init__(
        self, dataset_name: str, output_dir: str | None = None, left_out: Collection[Any] = ()
    ) -> None:
        self._output_dir = Path(output_dir) if output_dir else None
        self._ground_truth = without_images(load_ground_truth(dataset_name), left_out)
        self._class_names = list(MetadataCatalog.get(dataset_name).thing_classes)
        self._category_ids = load_categories(dataset_name)
        self._detections: list[dict[str, Any]] = []

    def reset(self) -> None:
        """Removes all detections."""
        self._detections = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Adds the detections of one batch.

        Args:
            inputs: dicts with `image_id`.
            outputs: dicts with `instances` on the original image: pred_boxes (xyxy pixels),
                scores and pred_classes.
        """
        for image, output in zip(inputs, outputs, strict=True):
            self._detections += to_coco_detections(
                output["instances"], image["image_id"], self._category_ids
            )

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Returns {"bbox": {metric: percent}} on the main process, {} on the others."""
        gathered = comm.gather(self._detections)
        if not comm.is_main_process():
            return {}
        detections = list(itertools.chain.from_iterable(gathered))
        if not detections:
            logger.warning("the model has no detections in this dataset")
        if self._output_dir:
            self._output_dir.mkdir(parents=True, exist_ok=True)
            path = self._output_dir / "coco_instances_results.json"
            # an id of the dataset may be a NumPy number
            path.write_text(json.dumps(detections, default=lambda number: number.item()))
        names = {
            category: self._class_names[label] for label, category in self._category_ids.items()
        }
        return {"bbox": box_average_precision(self._ground_truth, detections, names)}


def to_coco_detections(
    instances: Instances, image_id: Any, category_ids: dict[int, Any]
) -> list[dict[str, Any]]:
    """Returns a detector's output on one image in COCO's result format.

    Args:
        instances: pred_boxes (xyxy pixels of the original image), scores and pred_classes.
        image_id: the image's id in the ground truth.
        category_ids: predicted class -> category id of the ground truth.
    """
    boxes = BoxMode.convert(instances.pred_boxes.tensor.cpu(), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    scores, labels = instances.scores.tolist(), instances.pred_classes.tolist()
    return [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
        for box, score, label in zip(boxes.tolist(), scores, labels, strict=True)
    ]


def load_categories(dataset_name: str) -> dict[int, Any]:
    """Returns the category id in the ground truth of every class of a registered dataset."""
    metadata = MetadataCatalog.get(dataset_name)
    dataset_ids = metadata.get("thing_dataset_id_to_contiguous_id")
    if dataset_ids:
        return {label: category for category, label in dataset_ids.items()}
    return {label: label for label in range(len(metadata.thing_classes))}


def load_ground_truth(dataset_name: str) -> dict[str, Any]:
    """Returns the ground truth of a registered dataset as COCO JSON content.

    This is the dataset's own JSON file, unchanged, if it has one, so that the figures are those
    of pycocotools on this file. Otherwise the dataset dicts are converted, with the boxes that
    training uses: the parts inside the image. An object without `area` has its box's.
    """
    json_file = MetadataCatalog.get(dataset_name).get("json_file")
    if not json_file:
        return _from_dicts(DatasetCatalog.get(dataset_name), load_categories(dataset_name))
    path = Path(PathManager.get_local_path(json_file))
    content = parse_coco(path)
    if "annotations" not in content:
        raise UserError(
            f"{json_file} has no 'annotations', which the evaluation of {dataset_name} needs.\n"
            "Fix: name a split with annotations in dataloader.test.dataset.names"
        )
    check_list(path, content, "annotations")
    check_boxes(path, content)
    for annotation in content["annotations"]:  # some labelling tools omit both
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    return content


def _from_dicts(dicts: Sequence[dict], category_ids: dict[int, Any]) -> dict[str, Any]:
    """Converts detectron2's dataset dicts; boxes are clipped, those outside are left out."""
    annotations = []
    for record in dicts:
        for item in record.get("annotations", ()):
            box = inside_image(item, record["width"], record["height"])
            if box is not None:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": record["image_id"],
                        "category_id": category_ids[int(item["category_id"])],
                        "bbox": box,
                        "area": box[2] * box[3] if item.get("area") is None else item["area"],
                        "iscrowd": int(item.get("iscrowd") or 0),
                    }
                )
    if repeated := repeated_ids(dicts):
        raise UserError(
            f"several images have the image_id {some(repeated)}, which the evaluation cannot tell "
            "apart.\nFix: give each image an id of its own"
        )
    images = [
        {"id": record["image_id"], "width": record["width"], "height": record["height"]}
        for record in dicts
    ]
    return {"images": images, "annotations": annotations}


def without_images(ground_truth: dict[str, Any], left_out: Collection[Any]) -> dict[str, Any]:
    """Returns ground truth without some images."""
    left_out = set(left_out)
    return {
        **ground_truth,
        "images": [image for image in ground_truth["images"] if image["id"] not in left_out],
        "annotations": [
            annotation
            for annotation in ground_truth["annotations"]
            if annotation["image_id"] not in left_out
        ],
    }


def box_average_precision(
    ground_truth: dict[str, Any],
    detections: Sequence[dict[str, Any]],
    class_names: dict[Any, str],
) -> dict[str, float]:
    """Computes the AP of detections; per class and image, the 100 of highest score count.

    Args:
        ground_truth: COCO JSON content; boxes in xywh pixels.
        detections: dicts of image_id, category_id, bbox (xywh pixels) and score.
        class_names: category id -> name.

    Returns:
        Percent: AP, AP50, AP75, APs, APm, APl and "AP-<class>"; NaN where there is no object.

    Entries of images that are not listed, and of categories without a name, do not count.

    Raises:
        UserError: if a detection belongs to an image that the ground truth does not have.
    """
    evaluation = evaluate_boxes(ground_truth, detections, class_names)
    return average_precision(evaluation, class_names.values())


def evaluate_boxes(
    ground_truth: dict[str, Any], detections: Sequence[dict[str, Any]], categories: Iterable[Any]
) -> COCOeval:
    """Matches detections with objects, as `box_average_precision`, and returns all that is known.

    Args:
        ground_truth, detections: as of `box_average_precision`.
        categories: ids of the categories that count.

    Returns:
        hotcoco's evaluation, accumulated. In it, images count from 1 in the order of their ids,
        categories, annotations and detections from 1 in the order in which they are given.

    Raises:
        UserError: if a detection belongs to an image that the ground truth does not have.
    """
    image_ids = {image["id"] for image in ground_truth["images"]}
    if strange := {detection["image_id"] for detection in detections} - image_ids:
        raise UserError(
            f"detections in images that the ground truth does not have: {list(strange)[:5]}.\n"
            "Fix: give dataloader.evaluator the dataset of dataloader.test"
        )
    # COCO's code takes only whole numbers for ids, and an annotation of id 0 for none. The order
    # of the images decides among detections of the same score.
    number_of = {id_: number for number, id_ in enumerate(sorted(image_ids, key=id_order), start=1)}
    label_of = {id_: number for number, id_ in enumerate(categories, start=1)}
    truth = _numbered(ground_truth["annotations"], number_of, label_of)
    found = _numbered(detections, number_of, label_of)
    for detection in found["annotations"]:
        detection["area"] = detection["bbox"][2] * detection["bbox"][3]
        detection["iscrowd"] = 0
    evaluation = COCOeval(COCO(truth), COCO(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def average_precision(evaluation: COCOeval, class_names: Iterable[str]) -> dict[str, float]:
    """Returns the figures of `box_average_precision` from what `evaluate_boxes` returned."""
    # (IoU threshold, recall, class, object size, 1 / 10 / 100 detections); -1 where no object is
    precision = evaluation.eval["precision"]
    parameters = evaluation.params
    metrics = {}
    for name, (threshold, size) in _METRICS.items():
        part = precision[..., list(parameters.area_rng_lbl).index(size), -1]
        if threshold is not None:
            part = part[np.isclose(parameters.iou_thrs, threshold)]
        metrics[name] = _percent(part)
    for index, name in enumerate(class_names):
        metrics[f"AP-{name}"] = _percent(precision[:, :, index, 0, -1])
    return metrics


def _numbered(
    entries: Sequence[dict[str, Any]], number_of: dict[Any, int], label_of: dict[Any, int]
) -> dict[str, Any]:
    """Returns COCO JSON content whose images, categories and entries count from 1.

    Entries of other images and categories are left out, as COCO's code does; the numbers of the
    others stay. Unlike its `loadRes`, this accepts an empty list.
    """
    return {
        "images": [{"id": number} for number in number_of.values()],
        "categories": [{"id": number, "name": str(number)} for number in label_of.values()],
        "annotations": [
            {
                **{name: entry[name] for name in _USED if name in entry},
                "id": number,
                "image_id": number_of[entry["image_id"]],
                "category_id": label_of[entry["category_id"]],
            }
            for number, entry in enumerate(entries, start=1)
            if entry["image_id"] in number_of and entry["category_id"] in label_of
        ],
    }


def _percent(precision: np.ndarray) -> float:
    valid = precision[precision > -1]
    return float(valid.mean() * 100) if valid.size else float("nan")
