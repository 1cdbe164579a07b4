"""Datasets of detectron2's catalog; files registered as COCO are checked before loading."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager

from projects.clockdistill.data.coco_content import (
    brief,
    check_boxes,
    check_list,
    check_lists,
    check_unique,
    entry_name,
    parse_coco,
)
from projects.clockdistill.data.findings import some
from projects.clockdistill.errors import UserError


def registered_file(name: str) -> Path | None:
    """Returns the file of a dataset that is registered as COCO (`register_coco_instances`)."""
    metadata = MetadataCatalog.get(name)
    if not metadata.get("json_file") or metadata.get("evaluator_type") != "coco":
        return None
    return Path(PathManager.get_local_path(metadata.json_file))


@contextmanager
def loader_refusals(names: Sequence[str]) -> Iterator[None]:
    """Names the file and the fix if detectron2's loader fails at a field that only it reads.

    Args:
        names: of the datasets that are loaded in the block; those not registered as COCO are left
            alone.

    Raises:
        UserError: instead of the loader's assertion or other exception.
    """
    try:
        yield
    except (AssertionError, LookupError, TypeError) as error:
        files = [file for file in map(registered_file, names) if file is not None]
        if not files:
            raise
        raise UserError(
            f"detectron2's loader refuses {some(files)}: {type(error).__name__}: {error}. "
            "Fix: correct the segmentations and keypoints, or remove them."
        ) from error


def check_registered_file(path: Path) -> None:
    """Checks a COCO file by what this project and detectron2's loader need.

    Raises:
        FileNotFoundError, UserError: naming file, entry, field and fix.
    """
    content = parse_coco(path)
    with path.open("rb") as file:
        encoding = json.detect_encoding(file.read(4))
    if encoding != "utf-8":
        raise UserError(
            f"{path} is {encoding}, which detectron2's loader cannot read. "
            "Fix: save it as UTF-8 without a byte-order mark."
        )
    if "annotations" not in content:  # a test set
        for key in ("images", "categories"):
            check_list(path, content, key)
        return
    check_lists(path, content)
    check_boxes(path, content)
    for index, entry in enumerate(content["images"]):
        for field in ("width", "height"):
            if field not in entry:
                raise _error(path, "images", index, entry, field, "give the image's pixels")
    categories = {entry["id"] for entry in content["categories"]}
    for index, entry in enumerate(content["annotations"]):
        if "id" not in entry or isinstance(entry["id"], (bool, list, dict)):
            raise _error(path, "annotations", index, entry, "id", "number the annotations from 1")
        if entry["category_id"] not in categories:
            fix = f"use an id of 'categories' ({some(map(brief, categories))})"
            raise _error(path, "annotations", index, entry, "category_id", fix)
        if entry.get("ignore"):
            fix = "set iscrowd to 1 where detections are to be ignored, and remove ignore"
            raise _error(path, "annotations", index, entry, "ignore", fix)
    if "minival" not in str(path):  # as in detectron2: ids of COCO 2014's minival are repeated
        check_unique(path, content, "annotations")
    for key in ("images", "categories"):
        if len({isinstance(entry["id"], str) for entry in content[key]}) > 1:
            raise UserError(
                f"{path}: some ids of {key!r} are texts and some are numbers. "
                "Fix: write all as numbers."
            )


def _error(path: Path, key: str, index: int, entry: dict, field: str, fix: str) -> UserError:
    found = f"has {field} {brief(entry[field])}" if field in entry else f"has no {field!r}"
    return UserError(f"{path}: {entry_name(key, index, entry)} {found}. Fix: {fix}.")
