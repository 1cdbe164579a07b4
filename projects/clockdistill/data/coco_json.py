"""COCO-format datasets from two paths: a JSON file and the folder of its images."""

import functools
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.structures import BoxMode

from projects.clockdistill.data.annotations import DROPPED, MIN_SIZE, UNCLIPPED, clip_xywh
from projects.clockdistill.data.coco_content import (
    box_of_segmentation,
    brief,
    check_lists,
    entry_name,
    id_order,
    parse_coco,
)
from projects.clockdistill.data.findings import some
from projects.clockdistill.data.image_header import read_image_size
from projects.clockdistill.errors import UserError

EMPTY = "boxes without width or height, dropped"
OUTSIDE = "boxes outside their image, dropped"

_logger = logging.getLogger(__name__)


def coco_json_dicts(names: str, json_file: str, image_root: str) -> list[dict]:
    """Registers a COCO-format dataset and loads it; images without objects are kept.

    Used as `dataloader.<train|test>.dataset` in `configs/common/custom.py`. The evaluator gets its
    ground truth from the loaded dicts, not from the file, so that boxes that are dropped or clipped
    in training are dropped or clipped in evaluation.

    Args:
        names: its name in detectron2's catalogs; using it again replaces the files.
        json_file: annotations in COCO's format; only boxes are used.
        image_root: folder that the JSON file's file names are relative to.

    Returns:
        detectron2's dataset dicts.

    Raises:
        FileNotFoundError, UserError: as in `read_coco_json`; UserError also if an argument is
            no text or empty.
    """
    if not isinstance(names, str) or not names:
        raise UserError(f"names is {names!r}, expected one name. Fix: give each split one dataset")
    split = "train" if "train" in names else "test"
    for key, value in (("json_file", json_file), ("image_root", image_root)):
        _check_path(names, f"dataloader.{split}.dataset.{key}", value)
    paths = Path(json_file).expanduser().absolute(), Path(image_root).expanduser().absolute()
    categories, _ = read_coco_json(*paths)
    if names in DatasetCatalog:
        DatasetCatalog.remove(names)
        MetadataCatalog.remove(names)
    DatasetCatalog.register(names, lambda: read_coco_json(*paths)[1])
    MetadataCatalog.get(names).set(
        thing_classes=list(categories.values()),
        thing_dataset_id_to_contiguous_id={id_: index for index, id_ in enumerate(categories)},
        evaluator_type="coco",
    )
    return get_detection_dataset_dicts(names, filter_empty=False)


def _check_path(names: str, key: str, value: Any) -> None:
    """Checks that a path is one text that is not empty."""
    if value is None or value == "":
        hint = ""
        if ".test." in key:
            hint = ", for example of a tenth of the images, which training must not see"
        raise UserError(
            f"dataset {names!r} has no {key.rpartition('.')[2]}. Fix: set {key}=<path>{hint}"
        )
    if not isinstance(value, (str, os.PathLike)):
        raise UserError(
            f"{key} is {value!r}, expected one path. "
            "Fix: give one path; several JSON files must be merged into one"
        )


def read_coco_json(json_file: Path, image_root: Path) -> tuple[dict[Any, str], list[dict]]:
    """Reads and checks a COCO-format dataset; the result is cached and must not be changed.

    Boxes without width or height, or completely outside their image, are dropped with a
    warning that names them, because labelling tools leave such boxes behind. Boxes that overhang
    their image are clipped. `data/annotations.py` names the keys that tell of both. A missing box
    is derived from the segmentation.

    Returns:
        Category id -> name in the order of the ids (numbers, then texts), and detectron2's dataset
        dicts with contiguous class numbers in that order. Image ids are as in the file.

    Raises:
        FileNotFoundError: if the file, the folder or images are missing; names them.
        UserError: if the content is not in COCO's format; names the place and the fix.
    """
    stamp = None
    if json_file.is_file():
        status = json_file.stat()
        stamp = status.st_size, status.st_mtime_ns
    return _read(json_file, image_root, stamp)


@functools.lru_cache(maxsize=4)
def _read(
    json_file: Path, image_root: Path, stamp: tuple[int, int] | None
) -> tuple[dict[Any, str], list[dict]]:
    """Reads a dataset; another `stamp` (size and time of the file) reads it again."""
    content = parse_coco(json_file)
    if not image_root.is_dir():
        raise FileNotFoundError(
            f"image folder {image_root} does not exist. "
            "Fix: set image_root to the folder that 'file_name' is relative to."
        )
    check_lists(json_file, content)
    categories = _categories(json_file, content["categories"])
    records = _records(json_file, image_root, content["images"])
    _add_annotations(json_file, content["annotations"], categories, records)
    return categories, [records[image_id] for image_id in sorted(records, key=id_order)]


def _categories(json_file: Path, entries: list[dict]) -> dict[Any, str]:
    categories = {entry["id"]: str(entry["name"]) for entry in entries}
    if len(set(categories.values())) < len(categories):
        repeated = [name for name, count in Counter(categories.values()).items() if count > 1]
        raise UserError(
            f"{json_file}: two categories have the same name: {some(repeated)}. "
            "Fix: rename or merge them."
        )
    return {id_: categories[id_] for id_ in sorted(categories, key=id_order)}


def _records(json_file: Path, image_root: Path, entries: list[dict]) -> dict[Any, dict]:
    paths = {entry["id"]: os.path.join(image_root, entry["file_name"]) for entry in entries}
    if absent := [path for path in paths.values() if not os.path.isfile(path)]:
        raise FileNotFoundError(
            f"{len(absent)} of the {len(paths)} images of {json_file} do not exist: "
            f"{some(absent)}. Fix: set image_root to the folder that 'file_name' is relative to."
        )
    records = {}
    for entry in entries:
        path = paths[entry["id"]]
        if "width" not in entry or "height" not in entry:
            width, height = read_image_size(Path(path))
        else:
            width, height = int(entry["width"]), int(entry["height"])
        records[entry["id"]] = {
            "file_name": path,
            "image_id": entry["id"],
            "width": width,
            "height": height,
            "annotations": [],
        }
    return records


def _add_annotations(
    json_file: Path, entries: list[dict], categories: dict[Any, str], records: dict[Any, dict]
) -> None:
    class_of = {id_: index for index, id_ in enumerate(categories)}
    dropped = {EMPTY: [], OUTSIDE: []}
    for index, entry in enumerate(entries):
        record = records.get(entry["image_id"])
        label = class_of.get(entry["category_id"])
        if record is None or label is None:
            field, key = ("image_id", "images") if record is None else ("category_id", "categories")
            raise UserError(
                f"{json_file}: {entry_name('annotations', index, entry)} has {field} "
                f"{brief(entry[field])}, which is no id of {key!r}. Fix: use one of them "
                f"({some(map(brief, records if record is None else class_of))})."
            )
        box = entry.get("bbox") or _derived_box(json_file, index, entry, record)
        inside = clip_xywh(box, record["width"], record["height"])
        if inside is None:
            reason = EMPTY if min(box[2:]) < MIN_SIZE else OUTSIDE
            dropped[reason].append(f"{entry_name('annotations', index, entry)}: bbox {box}")
            of_image = record.setdefault(DROPPED, {})
            of_image[reason] = of_image.get(reason, 0) + 1
            continue
        item = {
            "bbox": inside,
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": label,
            "iscrowd": int(entry.get("iscrowd", 0)),
        }
        if inside != box:
            item[UNCLIPPED] = box
        if "area" in entry:
            item["area"] = entry["area"]
        record["annotations"].append(item)
    for reason, boxes in dropped.items():
        if boxes:
            _logger.warning("%s: %d %s: %s", json_file, len(boxes), reason, some(boxes))


def _derived_box(json_file: Path, index: int, entry: dict, record: dict) -> list[float]:
    box = box_of_segmentation(entry.get("segmentation"), record["width"], record["height"])
    if box is None:
        what = "an invalid segmentation" if "segmentation" in entry else "no segmentation"
        raise UserError(
            f"{json_file}: {entry_name('annotations', index, entry)} has no 'bbox' and {what}. "
            "Fix: set bbox to [left, top, width, height], in pixels."
        )
    return box
