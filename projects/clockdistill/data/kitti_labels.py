"""KITTI label files -> objects, or a message for every malformed line."""

import difflib
import math
from dataclasses import dataclass
from pathlib import Path

from projects.clockdistill.data.annotations import MAX_COORDINATE, MIN_SIZE

OFFICIAL_TYPES = (
    "Car",
    "Van",
    "Truck",
    "Pedestrian",
    "Person_sitting",
    "Cyclist",
    "Tram",
    "Misc",
    "DontCare",
)
FIELD_NAMES = (
    "type",
    "truncated",
    "occluded",
    "alpha",
    "left",
    "top",
    "right",
    "bottom",
    "height",
    "width",
    "length",
    "x",
    "y",
    "z",
    "rotation_y",
)


@dataclass(frozen=True, slots=True)
class KittiObject:
    """One line of a label file.

    Source: KITTI object devkit, readme.txt (Geiger et al., CVPR 2012).

    Attributes:
        type: one of `OFFICIAL_TYPES`.
        truncated: share of the object outside the image, in [0, 1]; -1 where unknown.
        occluded: 0 visible, 1 partly, 2 largely occluded, 3 unknown; -1 for DontCare.
        alpha: observation angle, radians in [-pi, pi]; -10 where unknown.
        box_xyxy: left, top, right, bottom in pixels of the image, 0-based.
        size_hwl: height, width, length in metres; -1 where unknown.
        location_xyz: centre of the bottom face in camera coordinates (x right, y down,
            z ahead), metres; -1000 where unknown.
        rotation_y: heading about the camera's y axis, radians, 0 = along +x; -10 where unknown.
    """

    type: str
    truncated: float
    occluded: int
    alpha: float
    box_xyxy: tuple[float, float, float, float]
    size_hwl: tuple[float, float, float]
    location_xyz: tuple[float, float, float]
    rotation_y: float

    def as_line(self) -> str:
        """Returns the object as a line of a label file, with two decimals as in official files."""
        numbers = (*self.box_xyxy, *self.size_hwl, *self.location_xyz, self.rotation_y)
        tail = " ".join(map(_as_text, (self.alpha, *numbers)))
        return f"{self.type} {_as_text(self.truncated)} {self.occluded} {tail}"


def parse_label_file(path: Path) -> tuple[list[KittiObject], list[str]]:
    """Reads a label file.

    Returns:
        The objects of the well-formed lines, and one message for each malformed line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors may write a byte-order mark
    except UnicodeDecodeError as error:
        return [], [f"{path}: not a text file ({error}). Fix: restore it from the dataset."]
    objects, problems = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            objects.append(parse_label_line(line))
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
    return objects, problems


def parse_label_line(line: str) -> KittiObject:
    """Parses a line of 15 fields.

    The 2D fields must be valid. The 3D fields need only be numbers, because 2D-only data in
    KITTI's format fills them with zeros.

    Raises:
        ValueError: naming the field and the fix.
    """
    fields = line.split()
    if words := _words_of_type(fields):
        raise ValueError(
            _field_message(
                0, " ".join(words), "a type with a blank", _nearest_type("_".join(words))
            )
        )
    if len(fields) != len(FIELD_NAMES):
        fix = "give exactly: " + " ".join(FIELD_NAMES)
        if len(fields) == len(FIELD_NAMES) + 1:
            fix = "remove the 16th field; it is the score of a result file, labels have none"
        raise ValueError(f"{len(fields)} fields, expected 15. Fix: {fix}.")
    if fields[0] not in OFFICIAL_TYPES:
        fix = _nearest_type(fields[0])
        raise ValueError(_field_message(0, fields[0], "not a KITTI type", fix))
    values = [_number(index, text) for index, text in enumerate(fields) if index > 0]
    truncated, occluded, alpha, left, top, right, bottom = values[:7]
    if not (0 <= truncated <= 1 or truncated == -1):
        raise ValueError(_field_message(1, fields[1], "outside [0, 1]", "give a share, or -1"))
    if occluded not in (-1, 0, 1, 2, 3):
        raise ValueError(_field_message(2, fields[2], "not a state", "give 0, 1, 2, 3 or -1"))
    if right - left < MIN_SIZE:
        fix = f"give a value above left = {fields[4]}"
        raise ValueError(_field_message(6, fields[6], "box without width", fix))
    if bottom - top < MIN_SIZE:
        fix = f"give a value above top = {fields[5]}"
        raise ValueError(_field_message(7, fields[7], "box without height", fix))
    return KittiObject(
        type=fields[0],
        truncated=truncated,
        occluded=int(occluded),
        alpha=alpha,
        box_xyxy=(left, top, right, bottom),
        size_hwl=tuple(values[7:10]),
        location_xyz=tuple(values[10:13]),
        rotation_y=values[13],
    )


def _words_of_type(fields: list[str]) -> list[str]:
    """Returns the words of a type that blanks split into several fields; empty if none do."""
    numbers = len(FIELD_NAMES) - 1
    words = fields[:-numbers]
    if not 1 < len(words) < 4 or any(_is_decimal(word) for word in words):
        return []
    return words


def _nearest_type(text: str) -> str:
    """Returns the fix for a type that KITTI does not have."""
    names = {name.lower(): name for name in OFFICIAL_TYPES}
    close = difflib.get_close_matches(text.lower(), names, n=1)
    return f"write {names[close[0]]!r}" if close else "use one of " + ", ".join(OFFICIAL_TYPES)


def _as_text(number: float) -> str:
    is_unknown = number in (-1, -10, -1000)  # the devkit writes these marks as integers
    return f"{number:g}" if is_unknown else f"{number:.2f}"


def _number(index: int, text: str) -> float:
    if not _is_decimal(text):
        raise ValueError(_field_message(index, text, "not a number", "give a decimal number"))
    value = float(text)
    if not abs(value) <= MAX_COORDINATE:
        raise ValueError(_field_message(index, text, "too large", "give pixels, metres, radians"))
    return value


def _is_decimal(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and text.isascii() and "_" not in text
    except ValueError:
        return False


def _field_message(index: int, text: str, fault: str, fix: str) -> str:
    return f"field {index + 1} ({FIELD_NAMES[index]}) is {text!r}: {fault}. Fix: {fix}."
