"""What detectors look at in one image, side by side: chosen queries -> rows of a figure."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from projects.clockdistill.errors import UserError
from projects.clockdistill.visualization.attention.figure import Panel, Row
from projects.clockdistill.visualization.attention.maps import (
    attention_map,
    energy_map,
    flat_tokens,
)
from projects.clockdistill.visualization.attention.reading import Attention, Reading
from projects.clockdistill.visualization.attention.subjects import (
    Column,
    Subject,
    View,
    choose_subject,
    drawn_boxes,
)


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
    subjects = [choose_subject(column, columns[0], view, size) for column in columns]
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
        "head": reading.num_heads(view.part),
        "level": len(reading.masks),
    }


def _check(column: Column, view: View, size: tuple[int, int]) -> None:
    """Refuses numbers that a detector does not have."""
    limits = {**_counts(column.reading, view), "query": column.reading.num_queries("decoder")}
    for name, limit in limits.items():
        number = getattr(view, name)
        lowest = 0 if name == "layer" else 1
        if number is not None and not lowest <= number <= limit:
            raise UserError(
                f"{name} {number} is out of range: the {view.part} of {column.title} has {limit}. "
                f"Fix: use {' to '.join(map(str, sorted({1, limit})))}"
            )
    if view.point_px is not None:
        x, y = view.point_px
        height, width = size
        if not (0 <= x < width and 0 <= y < height):
            raise UserError(
                f"point {x:g},{y:g} is outside of the image of {width} x {height} pixels. "
                f"Fix: use 0 <= X < {width} and 0 <= Y < {height}"
            )


def _panels(
    column: Column, subject: Subject, view: View, size: tuple[int, int]
) -> tuple[Panel, Panel]:
    """Returns a column's panel of points and of the map."""
    drawn = {"boxes": subject.boxes, "cross_px": view.point_px}
    title, reading = f"{column.title} ({column.reading.family}): {subject.text}", column.reading
    counts = _counts(reading, view)
    # --each counts to the highest number of all columns
    is_missing = any((getattr(view, name) or 0) > count for name, count in counts.items())
    if is_missing or not subject.queries:
        return Panel(title, **drawn), Panel(title, **drawn)
    number = counts["layer"] if view.layer is None else view.layer
    layers = range(counts["layer"]) if number == 0 else [number - 1]
    seen = [reading.attention(view.part, layer, subject.queries) for layer in layers]
    level = None if view.level is None else view.level - 1
    heads = slice(None) if view.head is None else slice(view.head - 1, view.head)
    tokens = torch.stack([one.tokens[heads].mean(0) for one in seen]).mean(0)
    heat = attention_map(tokens * len(subject.queries), reading.masks, size, level)
    shown = f"{title}\n{_parts_shown(view, counts)}"
    heat_panel = Panel(f"{shown}{_share(tokens, level, reading)}", heat, **drawn)
    if seen[0].points is None:
        return Panel(f"{title}\ndense attention: no sampling points", **drawn), heat_panel
    points_px, weights = _points(seen, heads, level, size)
    text = f"{shown}, {len(weights)} points"
    return Panel(text, points_px=points_px, weights=weights, **drawn), heat_panel


def _parts_shown(view: View, counts: dict[str, int]) -> str:
    """Names layers, heads and levels."""
    count = counts["layer"]
    if view.layer == 0:
        text = f"{view.part} layers 1 to {count}"
    else:
        text = f"{view.part} layer {view.layer or count} of {count}"
    text += ", all heads" if view.head is None else f", head {view.head} of {counts['head']}"
    if counts["level"] > 1:
        text += (
            ", all levels" if view.level is None else f", level {view.level} of {counts['level']}"
        )
    return text


def _share(tokens: torch.Tensor, level: int | None, reading: Reading) -> str:
    """Says which share of the attention a map shows, or does not show."""
    if level is not None:
        share = float(tokens.split([mask.numel() for mask in reading.masks])[level].sum())
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
    return Panel(title, heat, boxes=drawn_boxes(column, found[found.scores >= view.threshold]))
