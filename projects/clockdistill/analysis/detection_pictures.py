"""Detections of several detectors on the images where one of them misses most objects."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from projects.clockdistill.analysis.run_detections import EvaluationData
from projects.clockdistill.data.image_pixels import read_pixels
from projects.clockdistill.evaluation.diagnosis import ImageErrors
from projects.clockdistill.visualization.detection_grid import (
    DrawnBox,
    Outcome,
    Picture,
    save_picture_pages,
)

_KINDS: dict[str, Callable[[ImageErrors], list]] = {
    "hits": lambda found: found.hits,
    "missed": lambda found: found.misses,
    "wrong class": lambda found: found.wrong_classes,
    "false alarms": lambda found: found.false_alarms,
}


def hardest_images(errors: Mapping[Any, ImageErrors], count: int) -> list[Any]:
    """Returns the ids of the images with most missed objects; of equal ones, most false alarms."""
    ids = sorted(errors, key=lambda id_: (-len(errors[id_].misses), -len(errors[id_].false_alarms)))
    return ids[:count]


def counts_table(columns: Mapping[str, Mapping[Any, ImageErrors]], image_ids: Sequence[Any]) -> str:
    """Formats how many objects and detections of some images had which outcome, per detector."""
    rows = []
    for title, errors in columns.items():
        chosen = [errors[image_id] for image_id in image_ids]
        rows.append([title, *(sum(len(kind(d)) for d in chosen) for kind in _KINDS.values())])
    return tabulate(rows, ["", *_KINDS], tablefmt="github")


def detection_rows(
    data: EvaluationData, columns: Mapping[str, Mapping[Any, ImageErrors]], image_ids: Sequence[Any]
) -> list[list[Picture]]:
    """Returns images with their objects, and with what is right and wrong of each detector.

    Args:
        data: the test data.
        columns: name of a detector -> image id -> what is right and wrong.
        image_ids: one per row.
    """
    label_of = {category: label for label, category in data.category_ids.items()}
    objects = {image_id: [] for image_id in image_ids}
    for annotation in data.ground_truth["annotations"]:
        if annotation["image_id"] in objects and annotation["category_id"] in label_of:
            outcome = Outcome.IGNORED if annotation["iscrowd"] else None
            objects[annotation["image_id"]].append(_drawn(annotation, label_of, outcome))
    rows = []
    for image_id in image_ids:
        record = data.records[image_id]
        file, size = record["file_name"], (record.get("width"), record.get("height"))
        # turned as the annotations are
        pixels = read_pixels(file, size if None not in size else None)
        number = sum(box.outcome is None for box in objects[image_id])
        row = [Picture(pixels, objects[image_id], f"{Path(file).name}\nobjects: {number}")]
        for name, errors in columns.items():
            found = errors[image_id]
            title = ", ".join(f"{what}: {len(kind(found))}" for what, kind in _KINDS.items())
            row.append(Picture(pixels, _outcomes(found, label_of), f"{name}\n{title}"))
        rows.append(row)
    return rows


def save_detection_pictures(
    path: Path,
    data: EvaluationData,
    columns: Mapping[str, Mapping[Any, ImageErrors]],
    image_ids: Sequence[Any],
) -> list[Path]:
    """Draws what `detection_rows` returns, with a legend, and returns the files.

    Args:
        path: the first file.
        data, columns, image_ids: as of `detection_rows`.
    """
    rows = detection_rows(data, columns, image_ids)
    return save_picture_pages(path, rows, data.class_names, legend=list(Outcome))


def _outcomes(found: ImageErrors, label_of: Mapping[Any, int]) -> list[DrawnBox]:
    """Returns the boxes of one image in a detector's column."""
    drawn = [(annotation, Outcome.MISS) for annotation in found.misses]
    drawn += [(detection, Outcome.FALSE_ALARM) for detection in found.false_alarms]
    drawn += [(detection, Outcome.WRONG_CLASS) for _, detection in found.wrong_classes]
    drawn += [(detection, Outcome.HIT) for _, detection in found.hits]
    return [_drawn(entry, label_of, outcome) for entry, outcome in drawn]


def _drawn(entry: dict, label_of: Mapping[Any, int], outcome: Outcome | None) -> DrawnBox:
    left, top, width, height = entry["bbox"]
    corners = (left, top, left + width, top + height)
    return DrawnBox(corners, label_of[entry["category_id"]], entry.get("score"), outcome)
