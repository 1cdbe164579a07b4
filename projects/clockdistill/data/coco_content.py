"""A JSON file in COCO's format -> its content, with every field that is used of the right type."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotcoco import mask

from projects.clockdistill.data.annotations import is_area, is_box, is_flag, is_id, is_size
from projects.clockdistill.data.findings import some
from projects.clockdistill.errors import UserError

FORMAT = '{"images": [...], "categories": [...], "annotations": [...]}'


@dataclass(frozen=True)
class _Field:
    """A field of an entry: whether it must be there, its valid values, and these in words."""

    is_needed: bool
    is_valid: Callable[[Any], bool]
    expected: str


def _is_file_name(value: Any) -> bool:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return False
    return not any("\ud800" <= char <= "\udfff" for char in value)  # no file system has these


def _is_name(value: Any) -> bool:
    return isinstance(value, str) or is_id(value)


_ID = _Field(True, is_id, "text or a finite number")
_SIZE = _Field(False, is_size, "a positive whole number of pixels")
_FIELDS = {
    "images": {
        "id": _ID,
        "file_name": _Field(True, _is_file_name, "the path of an image file, as text"),
        "width": _SIZE,
        "height": _SIZE,
    },
    "categories": {"id": _ID, "name": _Field(True, _is_name, "text")},
    "annotations": {
        "image_id": _ID,
        "category_id": _ID,
        "bbox": _Field(False, is_box, "[left, top, width, height], four finite numbers in pixels"),
        "iscrowd": _Field(False, is_flag, "0 or 1"),
        "area": _Field(False, is_area, "a number of square pixels"),
    },
}


def parse_coco(path: Path) -> dict[str, Any]:
    """Parses a JSON file; a byte-order mark, and with it UTF-16, is accepted.

    Raises:
        FileNotFoundError: if there is no such file.
        UserError: if it is not JSON or no object.
    """
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"annotation file {path} {kind}. Fix: give a COCO JSON file.")
    data = path.read_bytes()
    if not data.strip():
        raise UserError(f"{path} is empty. Fix: write COCO's format, {FORMAT}.")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not valid JSON: {error}. Fix: write COCO's format, {FORMAT}."
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path} holds {brief(content)}, no object. Fix: write COCO's format, {FORMAT}."
        )
    return content


def check_lists(path: Path, content: dict[str, Any]) -> None:
    """Checks all three lists of a file; fields that are null are removed, as if left out.

    Raises:
        UserError: naming file, entry, field and fix.
    """
    for key in _FIELDS:
        check_list(path, content, key)
    for key in ("images", "categories"):
        if not content[key]:
            raise UserError(f"{path}: {key!r} is empty. Fix: list the {key}.")
        check_unique(path, content, key)


def check_list(path: Path, content: dict[str, Any], key: str) -> None:
    """Checks one of the lists "images", "categories" and "annotations", as `check_lists`."""
    if not isinstance(content.get(key), list):
        raise UserError(f"{path} has no list {key!r}. Fix: use COCO's format, {FORMAT}.")
    fields = _FIELDS[key].items()
    entries = content[key]
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(
                f"{path}: {key}[{index}] is {brief(entry)}. Fix: write an object, {{...}}."
            )
        if None in entry.values():
            entry = {name: value for name, value in entry.items() if value is not None}
            entries[index] = entry
        for name, field in fields:
            if name not in entry:
                if field.is_needed:
                    raise _field_error(path, key, index, entry, f"has no {name!r}", name, field)
            elif not field.is_valid(entry[name]):
                found = f"has {name} {brief(entry[name])}"
                raise _field_error(path, key, index, entry, found, name, field)


def check_unique(path: Path, content: dict[str, Any], key: str) -> None:
    """Checks that no two entries of a list have the same id.

    Raises:
        UserError: naming the ids.
    """
    counts = Counter(entry["id"] for entry in content[key])
    if len(counts) < len(content[key]):
        repeated = [brief(id_) for id_, count in counts.items() if count > 1]
        raise UserError(
            f"{path}: several {key} have the id {some(repeated)}. Fix: give each its own id."
        )


def check_boxes(path: Path, content: dict[str, Any]) -> None:
    """Checks that every annotation has a box: detectron2's own loader derives none.

    Raises:
        UserError: naming file, entry, field and fix.
    """
    for index, entry in enumerate(content["annotations"]):
        if "bbox" not in entry:
            raise UserError(
                f"{path}: {entry_name('annotations', index, entry)} has no 'bbox'. Fix: set bbox, "
                "or use a config of custom data, whose reader derives boxes from segmentations."
            )


def id_order(id_: Any) -> tuple[bool, Any]:
    """Returns a key to sort ids of any type by: numbers by size, then texts."""
    return isinstance(id_, str), id_


def box_of_segmentation(segmentation: Any, width: int, height: int) -> list[float] | None:
    """Returns the box [left, top, width, height] of polygons or a run-length code, in pixels.

    Args:
        segmentation: as in COCO's files.
        width: of the image, in pixels.
        height: of the image, in pixels.

    Returns:
        None if it is no valid segmentation or has no pixel.
    """
    if isinstance(segmentation, list):
        return _box_of_polygons(segmentation)
    if not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        return None
    counts = segmentation.get("counts")
    if isinstance(counts, list):
        if not all(type(run) is int and run >= 0 for run in counts):
            return None
        if sum(counts) != width * height:
            return None
        segmentation = mask.frPyObjects(segmentation, height, width)
    # The decoder of older versions reads past a text that does not end a number.
    elif not isinstance(counts, str) or not re.fullmatch("[0-o]*[0-O]", counts):
        return None
    try:
        box = [float(edge) for edge in mask.toBbox(segmentation)]
    except ValueError:  # more pixels than the image has
        return None
    is_inside = box[0] + box[2] <= width and box[1] + box[3] <= height
    return box if is_inside and box[2] > 0 and box[3] > 0 else None


def _box_of_polygons(polygons: list) -> list[float] | None:
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            return None
        if not all(is_box([x, y, x, y]) for x, y in zip(polygon[::2], polygon[1::2], strict=True)):
            return None
    if not polygons:
        return None
    xs = [x for polygon in polygons for x in polygon[::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def brief(value: Any) -> str:
    """Returns a value as in the file, shortened to fit into a message of one line."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def entry_name(key: str, index: int, entry: dict) -> str:
    """Returns an entry's place in the file, with its id if it has one."""
    return f"{key}[{index}]" + (f" (id {brief(entry['id'])})" if "id" in entry else "")


def _field_error(
    path: Path, key: str, index: int, entry: dict, found: str, name: str, field: _Field
) -> UserError:
    return UserError(
        f"{path}: {entry_name(key, index, entry)} {found}. Fix: set {name} to {field.expected}."
    )
