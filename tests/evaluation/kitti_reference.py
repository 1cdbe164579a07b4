"""KITTI's rules for 2D boxes, one frame, one object and one detection at a time.

Written from the description in `evaluation/kitti_rules.py`, as slow and as plain as possible.
"""

import functools
from dataclasses import dataclass

import numpy as np

from projects.clockdistill.evaluation.kitti_rules import Detections, GroundTruth

Box = tuple[float, float, float, float]
LIMITS = {"car": 0.7, "van": 0.7, "truck": 0.7, "tram": 0.7}  # the others: 0.5
IGNORED_NEAR = {"car": "van", "pedestrian": "person_sitting"}
MIN_HEIGHT = {"easy": 40, "moderate": 25, "hard": 25}
MAX_OCCLUDED = {"easy": 0, "moderate": 1, "hard": 2}
MAX_TRUNCATED = {"easy": 0.15, "moderate": 0.3, "hard": 0.5}


@dataclass(frozen=True)
class Thing:
    """An object in a frame."""

    frame: int
    type: str
    box: Box
    truncated: float = 0.0
    occluded: int = 0


@dataclass(frozen=True)
class Found:
    """A detection in a frame."""

    frame: int
    type: str
    box: Box
    score: float


def as_arrays(
    things: list[Thing], found: list[Found], classes: list[str]
) -> tuple[GroundTruth, Detections]:
    """Returns both as the evaluation takes them; lists are sorted by frame, otherwise kept."""
    things = sorted(things, key=lambda thing: thing.frame)
    found = sorted(found, key=lambda one: one.frame)
    return (
        GroundTruth(
            np.array([thing.frame for thing in things], dtype=np.int64),
            np.array([thing.type for thing in things], dtype=np.str_),
            np.array([thing.box for thing in things], dtype=np.float64).reshape(-1, 4),
            np.array([thing.truncated for thing in things], dtype=np.float64),
            np.array([thing.occluded for thing in things], dtype=np.int64),
        ),
        Detections(
            np.array([one.frame for one in found], dtype=np.int64),
            np.array([classes.index(one.type) for one in found], dtype=np.int64),
            np.array([one.box for one in found], dtype=np.float64).reshape(-1, 4),
            np.array([one.score for one in found], dtype=np.float64),
        ),
    )


def precisions(
    things: list[Thing], found: list[Found], name: str, level: str
) -> list[float] | None:
    """Returns the precision at 41 recalls; None if no object counts."""
    total = sum(state(thing, name, level) == "counts" for thing in things)
    if total == 0:
        return None
    frames = sorted({thing.frame for thing in things} | {one.frame for one in found})
    scenes = [
        ([t for t in things if t.frame == frame], [f for f in found if f.frame == frame])
        for frame in frames
    ]
    hits = []
    for objects, detections in scenes:
        for thing, one in pair_up(objects, detections, name, level, by_score=True):
            if state(thing, name, level) == "counts" and is_valid(one, name, level):
                hits.append(one.score)
    curve = []
    for threshold in sampled(hits, total):
        right = wrong = 0
        for objects, detections in scenes:
            kept = [one for one in detections if one.score >= threshold]
            pairs = pair_up(objects, kept, name, level, by_score=False)
            used = {id(one) for _, one in pairs}
            for thing, one in pairs:
                if state(thing, name, level) == "counts" and is_valid(one, name, level):
                    right += 1
            for one in kept:
                if is_valid(one, name, level) and id(one) not in used:
                    wrong += not in_dont_care(one, objects, name)
        curve.append(right / (right + wrong) if right + wrong else 0.0)
    curve += [0.0] * (41 - len(curve))
    return [max(curve[index:]) for index in range(41)]


def state(thing: Thing, name: str, level: str) -> str:
    """Returns whether an object counts, is ignored or has nothing to do with a class."""
    if thing.type == IGNORED_NEAR.get(name):
        return "ignored"
    if thing.type != name:
        return "other"
    is_hard = (
        thing.box[3] - thing.box[1] < MIN_HEIGHT[level]
        or thing.occluded > MAX_OCCLUDED[level]
        or thing.truncated > MAX_TRUNCATED[level]
    )
    return "ignored" if is_hard else "counts"


def is_low(one: Found, level: str) -> bool:
    """Returns whether a detection is below the minimum height."""
    return abs(one.box[3] - one.box[1]) < MIN_HEIGHT[level]


def is_valid(one: Found, name: str, level: str) -> bool:
    """Returns whether a detection can be right or wrong."""
    return one.type == name and not is_low(one, level)


def pair_up(
    objects: list[Thing], detections: list[Found], name: str, level: str, *, by_score: bool
) -> list[tuple[Thing, Found]]:
    """Lets each object of the class and of its neighbour take a detection."""
    free = [one for one in detections if one.type == name or is_low(one, level)]
    pairs = []
    for thing in objects:
        if state(thing, name, level) == "other":
            continue
        near = [one for one in free if iou(one.box, thing.box) > LIMITS.get(name, 0.5)]
        valid = [one for one in near if not is_low(one, level)]
        if not near:
            continue
        if by_score:
            best = max(near, key=lambda one: one.score)  # the first of equal ones
        elif valid:
            best = max(valid, key=lambda one, box=thing.box: iou(one.box, box))
        else:
            best = near[0]
        pairs.append((thing, best))
        free = [one for one in free if one is not best]
    return pairs


def in_dont_care(one: Found, objects: list[Thing], name: str) -> bool:
    """Returns whether enough of a detection's area lies in one DontCare box."""
    area = (one.box[2] - one.box[0]) * (one.box[3] - one.box[1])
    shares = [shared(one.box, t.box) / area for t in objects if t.type == "dontcare"]
    return any(share > LIMITS.get(name, 0.5) for share in shares)


def sampled(hits: list[float], total: int) -> list[float]:
    """Returns the score for each step of recall."""
    scores = sorted(hits, reverse=True)
    kept, wanted = [], 0.0
    for index, score in enumerate(scores):
        here, there = (index + 1) / total, (index + 2) / total
        is_last = index == len(scores) - 1
        if not is_last and there - wanted < wanted - here:
            continue
        kept.append(score)
        wanted += 1 / 40
    return kept


def shared(box: Box, other: Box) -> float:
    """Returns the area of the intersection."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


@functools.cache
def iou(box: Box, other: Box) -> float:
    """Returns intersection over union."""
    both = shared(box, other)
    if both == 0:
        return 0.0
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return both / (areas[0] + areas[1] - both)
