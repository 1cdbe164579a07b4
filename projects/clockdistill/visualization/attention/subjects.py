"""What to look at in an image: options -> queries of each detector."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from detectron2.structures import Boxes, Instances, pairwise_iou

from projects.clockdistill.errors import UserError
from projects.clockdistill.visualization.attention.figure import Box
from projects.clockdistill.visualization.attention.maps import tokens_at
from projects.clockdistill.visualization.attention.reading import Part, Reading
from projects.clockdistill.visualization.detections import color_of


@dataclass(frozen=True)
class View:
    """What to look at. All numbers count from 1.

    Attributes:
        threshold: lowest score of the detections that are looked at.
        detection: number of one of the first detector's detections, by falling score.
        query: number of one query of the decoder.
        point_px: (x, y) in pixels of the image; shows the encoder instead of the decoder.
        layer: number of a layer; 0 for the mean of all; None for the last.
        head: number of a head; None for the mean of all.
        level: number of a level; None for all together.
        each: a map for each of these.
        draw: maps, sampling points or both.
    """

    threshold: float = 0.5
    detection: int | None = None
    query: int | None = None
    point_px: tuple[float, float] | None = None
    layer: int | None = None
    head: int | None = None
    level: int | None = None
    each: Literal["layer", "head", "level"] | None = None
    draw: Literal["both", "map", "points"] = "both"

    @property
    def part(self) -> Part:
        """Returns whose attention is shown."""
        return "decoder" if self.point_px is None else "encoder"


@dataclass(frozen=True)
class Column:
    """A detector that has seen the image.

    Attributes:
        title: names it.
        class_names: by predicted class.
        reading: what it did.
    """

    title: str
    class_names: Sequence[str]
    reading: Reading


@dataclass(frozen=True)
class Subject:
    """What a column looks at: queries, and what is written and drawn of them.

    Attributes:
        queries: indices; empty where there is nothing to look at.
        text: names them.
        boxes: their boxes.
    """

    queries: Sequence[int]
    text: str
    boxes: Sequence[Box] = ()


def choose_subject(column: Column, first: Column, view: View, size: tuple[int, int]) -> Subject:
    """Chooses a column's queries.

    Args:
        column: whose.
        first: the column whose detections `View.detection` counts.
        view: what to look at, in the range of what the column has.
        size: (height, width) of the image.

    Raises:
        UserError: if the first detector has no such detection.
    """
    found = column.reading.detections
    if view.point_px is not None:
        x, y = view.point_px
        tokens = tokens_at(x / size[1], y / size[0], column.reading.masks)
        cells = "the token" if len(tokens) == 1 else f"the {len(tokens)} tokens, one per level,"
        return Subject(tokens, f"{cells} at ({x:g}, {y:g})")
    if view.query is not None:
        chosen = found[found.pred_queries == view.query - 1][:1]
        text = f"query {view.query}"
        if len(chosen):
            text += f": {_name(column, chosen)}"
        return Subject([view.query - 1], text, drawn_boxes(column, chosen))
    if view.detection is not None:
        return _one_detection(column, first, view)
    chosen = found[found.scores >= view.threshold]
    limit = f"of score {view.threshold:g} or more"
    text = f"{len(chosen)} detection{'' if len(chosen) == 1 else 's'} {limit}"
    if not len(chosen) and len(found):
        chosen = found[:1]  # better than an empty picture
        text = f"none {limit}, its best: {_name(column, chosen)}"
    queries = dict.fromkeys(chosen.pred_queries.tolist())  # one may give several detections
    return Subject(list(queries), text, drawn_boxes(column, chosen))


def _one_detection(column: Column, first: Column, view: View) -> Subject:
    """Chooses the detection by its number, in further columns the one that fits it best."""
    wanted = first.reading.detections
    if not 1 <= view.detection <= len(wanted):
        raise UserError(
            f"detection {view.detection}: {first.title} has {len(wanted)} detections of any score. "
            f"Fix: use 1 to {len(wanted)}"
        )
    wanted = wanted[view.detection - 1]
    found = column.reading.detections
    if column is first:
        index, text = view.detection - 1, f"detection {view.detection}: "
    else:
        name = first.class_names[int(wanted.pred_classes)]
        index, overlap = matching_detection(found, wanted.pred_boxes, name, column.class_names)
        if not overlap:
            return Subject([], f"no detection where {first.title} has one")
        text = f"IoU {overlap:.2f}: "
    chosen = found[index]
    text += f"{_name(column, chosen)}, query {int(chosen.pred_queries) + 1}"
    return Subject(chosen.pred_queries.tolist(), text, drawn_boxes(column, chosen))


def matching_detection(
    found: Instances, box: Boxes, name: str, class_names: Sequence[str]
) -> tuple[int, float]:
    """Returns the detection that fits a box best, and its IoU; 0 where none overlaps.

    The IoU counts half for detections of another class.

    Args:
        found: detections.
        box: one, in pixels.
        name: of its class.
        class_names: by predicted class of the detections.
    """
    if not len(found):
        return 0, 0.0
    overlaps = pairwise_iou(box, found.pred_boxes)[0]
    same = torch.tensor([class_names[label] == name for label in found.pred_classes.tolist()])
    index = int((overlaps * torch.where(same, 1.0, 0.5)).argmax())
    return index, float(overlaps[index])


def _name(column: Column, detection: Instances) -> str:
    label = column.class_names[int(detection.pred_classes)]
    return f"{label} {float(detection.scores):.2f}"


def drawn_boxes(column: Column, found: Instances) -> list[Box]:
    """Returns the boxes of detections, with class and score."""
    return [
        Box(
            found.pred_boxes.tensor[index].tolist(),
            color_of(int(found.pred_classes[index])),
            _name(column, found[index]),
        )
        for index in range(len(found))
    ]
