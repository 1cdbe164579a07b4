"""What detectors look at in one image, side by side: chosen queries -> rows of a figure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from detectron2.structures import Boxes, Instances, pairwise_iou

from projects.clockdistill.errors import UserError
from projects.clockdistill.visualization.attention_figure import Box, Panel, Row
from projects.clockdistill.visualization.attention_maps import (
    attention_map,
    energy_map,
    flat_tokens,
    tokens_at,
)
from projects.clockdistill.visualization.attention_reading import Attention, Part, Reading
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


def attention_rows(columns: Sequence[Column], view: View, size: tuple[int, int]) -> list[Row]:
    """Returns maps and sampling points of what the columns look at.

    Args:
        columns: detectors; `View.detection` counts the first one's.
        view: what to look at.
        size: (height, width) of the image.

    Raises:
        UserError: if a number of the view is out of range.
    """
    for column in columns:
        _check(column, view, size)
    subjects = [_subject(column, columns[0], view, size) for column in columns]
    pairs = list(zip(columns, subjects, strict=True))
    rows = []
    for one in _each(columns, view):
        panels = [_panels(column, subject, one, size) for column, subject in pairs]
        has_points = any(points.points_px is not None for points, _ in panels)
        if view.draw != "map" and has_points:
            rows.append(Row([points for points, _ in panels], "weight of a point"))
        if view.draw != "points":
            rows.append(Row([heat for _, heat in panels], "attention (1 = even)"))
    if not rows:
        raise UserError(
            f"{columns[0].reading.family} looks at every token, so there are no sampling points to "
            "draw. Fix: draw the map"
        )
    return rows


def feature_rows(columns: Sequence[Column], view: View, size: tuple[int, int]) -> list[Row]:
    """Returns energy maps of neck and memory; arguments as in `attention_rows`."""
    for column in columns:
        _check(column, view, size)
    levels = max(len(column.reading.masks) for column in columns)
    chosen = range(1, levels + 1) if view.each == "level" else [view.level]
    rows = []
    for part in ("neck", "memory"):
        for level in chosen:
            panels = [_energy_panel(column, part, level, view, size) for column in columns]
            rows.append(Row(panels))
    return rows


def _each(columns: Sequence[Column], view: View) -> list[View]:
    """Returns the views whose maps are wanted."""
    if view.each is None:
        return [view]
    number = max(_counts(column.reading, view)[view.each] for column in columns)
    return [replace(view, **{view.each: index}) for index in range(1, number + 1)]


def _counts(reading: Reading, view: View) -> dict[str, int]:
    return {
        "layer": len(reading.calls[view.part]),
        "head": reading.num_heads,
        "level": len(reading.masks),
    }


def _check(column: Column, view: View, size: tuple[int, int]) -> None:
    """Refuses numbers that a detector does not have."""
    limits = {**_counts(column.reading, view), "query": column.reading.num_queries("decoder")}
    for name, limit in limits.items():
        number = getattr(view, name)
        lowest = 0 if name == "layer" else 1
        if number is not None and not lowest <= number <= limit:
            owner = f"the {view.part} of {column.title}"
            plural = {"query": "queries"}.get(name, f"{name}s")
            raise UserError(f"{name} {number}: {owner} has {limit} {plural}. Fix: use 1 to {limit}")
    if view.point_px is not None:
        x, y = view.point_px
        height, width = size
        if not (0 <= x < width and 0 <= y < height):
            raise UserError(
                f"point {x:g},{y:g} is outside of the image of {width} x {height} pixels. "
                f"Fix: use 0 <= X < {width} and 0 <= Y < {height}"
            )


def _subject(column: Column, first: Column, view: View, size: tuple[int, int]) -> Subject:
    """Chooses a column's queries."""
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
        return Subject([view.query - 1], text, _boxes(column, chosen))
    if view.detection is not None:
        return _one_detection(column, first, view)
    chosen = found[found.scores >= view.threshold]
    text = f"{len(chosen)} detection{'' if len(chosen) == 1 else 's'} of {view.threshold:g} or more"
    if not len(chosen) and len(found):
        chosen = found[:1]  # better than an empty picture
        text = f"none of {view.threshold:g} or more, its best: {_name(column, chosen)}"
    queries = dict.fromkeys(chosen.pred_queries.tolist())  # one may give several detections
    return Subject(list(queries), text, _boxes(column, chosen))


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
    return Subject(chosen.pred_queries.tolist(), text, _boxes(column, chosen))


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


def _panels(
    column: Column, subject: Subject, view: View, size: tuple[int, int]
) -> tuple[Panel, Panel]:
    """Returns a column's panel of points and of the map."""
    drawn = {"boxes": subject.boxes, "cross_px": view.point_px}
    title, reading = f"{column.title} ({column.reading.family}): {subject.text}", column.reading
    counts = _counts(reading, view)
    if not subject.queries or any((getattr(view, n) or 0) > counts[n] for n in counts):
        return Panel(title, **drawn), Panel(title, **drawn)
    count = counts["layer"]
    number = count if view.layer is None else view.layer
    layers = range(count) if number == 0 else [number - 1]
    seen = [reading.attention(view.part, layer, subject.queries) for layer in layers]
    level = None if view.level is None else view.level - 1
    heads = slice(None) if view.head is None else slice(view.head - 1, view.head)
    tokens = torch.stack([one.tokens[heads].mean(0) for one in seen]).mean(0)
    which = f"{view.part} layers 1 to {count}" if number == 0 else f"{view.part} layer {number}"
    which += f" of {count}, " if number else ", "
    which += "all heads" if view.head is None else f"head {view.head} of {counts['head']}"
    if counts["level"] > 1:
        which += ", all levels" if level is None else f", level {view.level} of {counts['level']}"
    heat = attention_map(tokens * len(subject.queries), reading.masks, size, level)
    map_title = f"{title}\n{which}{_shares(seen, tokens, heads, level, reading)}"
    points = Panel(f"{title}\ndense attention: no sampling points", **drawn)
    if seen[0].points is not None:
        points_px, weights = _points(seen, heads, level, size)
        points = Panel(
            f"{title}\n{which}, {len(weights)} points", None, points_px, weights, **drawn
        )
    return points, Panel(map_title, heat, **drawn)


def _shares(
    seen: Sequence[Attention],
    tokens: torch.Tensor,
    heads: slice,
    level: int | None,
    reading: Reading,
) -> str:
    """Says how much of the attention a map does not show."""
    if level is not None:
        sizes = [mask.numel() for mask in reading.masks]
        share = float(tokens.split(sizes)[level].sum())
        return f": {share:.0%} of the attention"
    outside = 1 - float(tokens.sum())
    return f"; {outside:.0%} outside of the image" if outside >= 0.005 else ""


def _points(
    seen: Sequence[Attention], heads: slice, level: int | None, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns points (N, 2) in pixels and their weights (N,)."""
    levels = slice(None) if level is None else slice(level, level + 1)
    points = torch.cat([one.points[:, heads, levels].flatten(0, -2) for one in seen])
    weights = torch.cat([one.weights[:, heads, levels].flatten() for one in seen])
    return (points * points.new_tensor([size[1], size[0]])).numpy(), weights.numpy()


def _energy_panel(
    column: Column, part: str, level: int | None, view: View, size: tuple[int, int]
) -> Panel:
    """Returns the map of "neck" or "memory", with the detections' boxes."""
    reading = column.reading
    title = f"{column.title} ({reading.family}): {part}"
    if len(reading.masks) > 1:
        title += ", mean of all levels" if level is None else f", level {level}"
    if level is not None and level > len(reading.masks):
        return Panel(title)
    tokens = reading.memory if part == "memory" else flat_tokens(reading.features)
    heat = energy_map(tokens, reading.masks, size, None if level is None else level - 1)
    title += f"\nmean |activation| {heat.min():.3g} to {heat.max():.3g}"
    found = reading.detections
    return Panel(title, heat, boxes=_boxes(column, found[found.scores >= view.threshold]))


def _name(column: Column, detection: Instances) -> str:
    label = column.class_names[int(detection.pred_classes)]
    return f"{label} {float(detection.scores):.2f}"


def _boxes(column: Column, found: Instances) -> list[Box]:
    return [
        Box(
            found.pred_boxes.tensor[index].tolist(),
            color_of(int(found.pred_classes[index])),
            _name(column, found[index]),
        )
        for index in range(len(found))
    ]
