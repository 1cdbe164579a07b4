"""Images of the test data as a page shows them: a small JPEG below boxes drawn by the browser."""

import base64
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image as Pillow

from projects.clockdistill.data.image_pixels import read_pixels
from projects.clockdistill.report.evaluated import Image

_MAX_SIDE = 720  # pixels
_QUALITY = 80


@dataclass(frozen=True)
class Box:
    """A box of a picture.

    Attributes:
        kind: "hit", "wrong", "false", "missed" or "crowd", which decides how it is drawn.
        xywh: in pixels of the image.
        tag: a letter in its corner.
        words: what a pointer on it shows.
    """

    kind: str
    xywh: tuple[float, float, float, float]
    tag: str
    words: str


@dataclass(frozen=True)
class Picture:
    """An image of a page.

    Attributes:
        name: of its file.
        source: the image as a data URL.
        size: (width, height) that its boxes refer to, in pixels.
        boxes: from the back to the front.
        errors: in words, one kind each.
        hits: number of objects that were detected.
    """

    name: str
    source: str
    size: tuple[int, int]
    boxes: list[Box]
    errors: list[str]
    hits: int

    @property
    def letter(self) -> float:
        """The height of the letters in pixels of the image."""
        return max(self.size[0] / 45, self.size[1] / 30)


def picture(image: Image, class_names: Mapping[Any, str]) -> Picture:
    """Returns an image with its boxes.

    Raises:
        OSError, ImageError: if it cannot be read.
    """
    pixels = Pillow.fromarray(read_pixels(image.file, image.size))
    pixels.thumbnail((_MAX_SIDE, _MAX_SIDE))
    buffer = io.BytesIO()
    pixels.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    source = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    errors = image.errors

    def name(entry: dict) -> str:
        return class_names[entry["category_id"]]

    def scored(detection: dict) -> str:
        return f"{name(detection)} {detection['score']:.2f}"

    wrong = [f"{name(truth)} as {scored(found)}" for truth, found in errors.wrong_classes]
    boxes = [Box("crowd", entry["bbox"], "", "ignored region") for entry in image.crowds]
    boxes += [Box("hit", found["bbox"], "", f"found: {scored(found)}") for _, found in errors.hits]
    boxes += [
        Box("wrong", found["bbox"], "W", f"wrong class: {words}")
        for (_, found), words in zip(errors.wrong_classes, wrong, strict=True)
    ]
    boxes += [
        Box("false", entry["bbox"], "F", f"false alarm: {scored(entry)}")
        for entry in errors.false_alarms
    ]
    boxes += [
        Box("missed", entry["bbox"], "M", f"missed: {name(entry)}") for entry in errors.misses
    ]
    lists = {
        ("missed", "missed"): [name(entry) for entry in errors.misses],
        ("of a wrong class", "of a wrong class"): wrong,
        ("false alarm", "false alarms"): [scored(entry) for entry in errors.false_alarms],
    }
    words = [
        f"{len(entries)} {kind[len(entries) > 1]} ({_some(entries)})"
        for kind, entries in lists.items()
        if entries
    ]
    return Picture(image.file.name, source, image.size, boxes, words, len(errors.hits))


def _some(entries: list[str], limit: int = 6) -> str:
    """Returns a list in words; equal entries are counted."""
    counted = [
        f"{number} x {text}" if number > 1 else text for text, number in Counter(entries).items()
    ]
    return ", ".join(counted[:limit]) + (", ..." if len(counted) > limit else "")
