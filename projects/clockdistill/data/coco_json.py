"""COCO-format datasets from two paths: a JSON file and the folder of its images."""

import collections
import functools
import json
import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.structures import BoxMode

from projects.clockdistill.data.image_header import read_image_size

_SHOWN = 10  # problems of one kind listed in a message

_NEEDED_FIELDS = {
    "images": ("id", "file_name"),
    "categories": ("id", "name"),
    "annotations": ("image_id", "category_id", "bbox"),
}

_logger = logging.getLogger(__name__)


def coco_json_dicts(names: str, json_file: str, image_root: str) -> list[dict]:
    """Registers a COCO-format dataset and loads it; images without objects are kept.

    Used as `dataloader.<train|test>.dataset` in `configs/common/custom.py`. The evaluator gets its
    ground truth from the loaded dicts, not from the file, so that boxes that are dropped in
    training are not expected in evaluation.

    Args:
        names: its name in detectron2's catalogs; using it again replaces the files.
        json_file: annotations in COCO's format; only boxes are used.
        image_root: folder that the JSON file's file names are relative to.

    Returns:
        detectron2's dataset dicts.

    Raises:
        FileNotFoundError, ValueError: as in `read_coco_json`; ValueError also if a path is empty.
    """
    for key, value in (("json_file", json_file), ("image_root", image_root)):
        if not value:
            split = "test" if "val" in names or "test" in names else "train"
            raise ValueError(
                f"dataset {names!r} has no {key}. Fix: set dataloader.{split}.dataset.{key}=<path>"
            )
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


@functools.lru_cache(maxsize=4)
def read_coco_json(json_file: Path, image_root: Path) -> tuple[dict[int, str], list[dict]]:
    """Reads and checks a COCO-format dataset; the result is cached and must not be changed.

    Boxes without width or height, or completely outside their image, are dropped with a
    warning that names them, because labelling tools leave such boxes behind.

    Returns:
        Category id -> name in the order of the ids, and detectron2's dataset dicts with
        contiguous class numbers in that order.

    Raises:
        FileNotFoundError: if the file, the folder or images are missing; names them.
        ValueError: if the content is not in COCO's format; names the place and the fix.
    """
    if not json_file.is_file():
        raise FileNotFoundError(f"annotation file {json_file} does not exist")
    if not image_root.is_dir():
        raise FileNotFoundError(f"image folder {image_root} does not exist")
    content = _parse(json_file)
    categories = _categories(json_file, content["categories"])
    records = _records(json_file, image_root, content["images"])
    _add_annotations(json_file, content["annotations"], categories, records)
    return categories, [records[image_id] for image_id in sorted(records)]


def _parse(json_file: Path) -> dict[str, Any]:
    try:
        content = json.loads(json_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{json_file} is not valid JSON: {error}") from error
    for key, fields in _NEEDED_FIELDS.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(
                f"{json_file} has no list {key!r}. Fix: use COCO's format, "
                '{"images": [...], "categories": [...], "annotations": [...]}.'
            )
        for index, entry in enumerate(content[key]):
            if missing := [field for field in fields if field not in entry]:
                raise ValueError(f"{json_file}: {key}[{index}] has no {missing[0]!r}")
    for key in ("images", "categories"):
        if not content[key]:
            raise ValueError(f"{json_file}: {key!r} is empty")
        counts = collections.Counter(entry["id"] for entry in content[key])
        if repeated := [id_ for id_, count in counts.items() if count > 1]:
            raise ValueError(f"{json_file}: several {key} have the id {_some(repeated)}")
    return content


def _categories(json_file: Path, entries: list[dict]) -> dict[int, str]:
    categories = {entry["id"]: str(entry["name"]) for entry in entries}
    if len(set(categories.values())) < len(categories):
        raise ValueError(
            f"{json_file}: two categories have the same name: {_some(categories.values())}"
        )
    return dict(sorted(categories.items()))


def _records(json_file: Path, image_root: Path, entries: list[dict]) -> dict[Any, dict]:
    paths = {entry["id"]: image_root / entry["file_name"] for entry in entries}
    if absent := [str(path) for path in paths.values() if not path.is_file()]:
        raise FileNotFoundError(
            f"{len(absent)} of the {len(paths)} images of {json_file} do not exist: "
            f"{_some(absent)}. Fix: set image_root to the folder that 'file_name' is relative to."
        )
    records = {}
    for entry in entries:
        path = paths[entry["id"]]
        if "width" not in entry or "height" not in entry:
            width, height = read_image_size(path)
        else:
            width, height = entry["width"], entry["height"]
        records[entry["id"]] = {
            "file_name": str(path),
            "image_id": entry["id"],
            "width": width,
            "height": height,
            "annotations": [],
        }
    return records


def _add_annotations(
    json_file: Path, entries: list[dict], categories: dict[int, str], records: dict[Any, dict]
) -> None:
    class_of = {id_: index for index, id_ in enumerate(categories)}
    dropped = []
    for index, entry in enumerate(entries):
        where = f"annotation {entry.get('id', f'number {index}')} of image {entry['image_id']}"
        if entry["image_id"] not in records:
            raise ValueError(f"{json_file}: {where}: image not in 'images'")
        if entry["category_id"] not in class_of:
            raise ValueError(
                f"{json_file}: {where}: unknown category {entry['category_id']!r}. "
                f"Fix: use an id of 'categories': {_some(class_of)}."
            )
        record = records[entry["image_id"]]
        box = entry["bbox"]
        if not _is_box(box):
            raise ValueError(
                f"{json_file}: {where}: bbox {box!r}. Fix: give [left, top, width, height]."
            )
        left, top, width, height = box
        outside = left >= record["width"] or top >= record["height"]
        if width <= 0 or height <= 0 or outside or left + width <= 0 or top + height <= 0:
            dropped.append(f"{where}: bbox {box}")
            continue
        record["annotations"].append(
            {
                "bbox": list(box),
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": class_of[entry["category_id"]],
                "iscrowd": int(entry.get("iscrowd", 0)),
            }
        )
    if dropped:
        _logger.warning(
            "%s: dropped %d boxes that are empty or outside their image: %s",
            json_file,
            len(dropped),
            _some(dropped),
        )


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(edge, (int, float)) and math.isfinite(edge) for edge in box)
    )


def _some(items: Iterable) -> str:
    items = [str(item) for item in items]
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
