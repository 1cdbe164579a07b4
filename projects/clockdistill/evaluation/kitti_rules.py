"""KITTI's rules for the 2D average precision: what counts, what is assigned to what, precision.

Source: Geiger et al., CVPR 2012, section 3.2, and the program of the object development kit
(evaluate_object.cpp, www.cvlibs.net/datasets/kitti/eval_object.php), which settles what the paper
leaves open. Boxes are (left, top, right, bottom) in pixels, of width right - left, without the
+ 1 of VOC. All comparisons with an overlap are strict.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

RECALLS = 41  # points 0, 1/40, ..., 1


@dataclass(frozen=True)
class Difficulty:
    """Which objects count; harder ones are ignored: to find them is neither right nor wrong.

    Attributes:
        min_height: of a box in pixels, for objects and detections.
        max_occluded: state of KITTI's labels.
        max_truncated: share of the object outside the image.
    """

    min_height: float
    max_occluded: int
    max_truncated: float


DIFFICULTIES: Mapping[str, Difficulty] = {
    "easy": Difficulty(40, 0, 0.15),
    "moderate": Difficulty(25, 1, 0.30),
    "hard": Difficulty(25, 2, 0.50),
}
# An IoU above this makes a detection a candidate. KITTI evaluates the first three classes; the
# others have the value of the class that they resemble.
MIN_OVERLAPS: Mapping[str, float] = {
    "car": 0.7,
    "pedestrian": 0.5,
    "cyclist": 0.5,
    "van": 0.7,
    "truck": 0.7,
    "person_sitting": 0.5,
    "tram": 0.7,
}
# class -> type whose objects are ignored for it
NEIGHBOURS: Mapping[str, str] = {"car": "van", "pedestrian": "person_sitting"}
DONT_CARE = "dontcare"


@dataclass(frozen=True)
class GroundTruth:
    """The N objects of all frames.

    Attributes:
        frames: (N,) int64, index of the frame, ascending; in a frame, the label file's order.
        types: (N,) text in lower case.
        boxes_xyxy: (N, 4) float64, pixels.
        truncated: (N,) float64; -1 where unknown, which no limit excludes.
        occluded: (N,) int64; -1 likewise.
    """

    frames: np.ndarray
    types: np.ndarray
    boxes_xyxy: np.ndarray
    truncated: np.ndarray
    occluded: np.ndarray


@dataclass(frozen=True)
class Detections:
    """The M detections of all frames.

    Attributes:
        frames: (M,) int64, index of the frame, ascending. In a frame the order is the detector's;
            it decides between equal scores and between equal overlaps.
        labels: (M,) int64, index of the class.
        boxes_xyxy: (M, 4) float64, pixels.
        scores: (M,).
    """

    frames: np.ndarray
    labels: np.ndarray
    boxes_xyxy: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Overlaps:
    """What overlaps in the same frame.

    Attributes:
        truth, found: (P,) int64, indices of an object and of a detection, in their orders.
        iou: (P,) float64, those above the least of `MIN_OVERLAPS`.
        dont_care: (M,) float64, largest share of each detection's area in one DontCare box.
    """

    truth: np.ndarray
    found: np.ndarray
    iou: np.ndarray
    dont_care: np.ndarray


def find_overlaps(truth: GroundTruth, found: Detections) -> Overlaps:
    """Computes all overlaps, frame by frame."""
    least = min(MIN_OVERLAPS.values())
    is_object = truth.types != DONT_CARE
    found_areas, truth_areas = _areas(found.boxes_xyxy), _areas(truth.boxes_xyxy)
    dont_care = np.zeros(len(found.frames))
    pairs = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for frame in np.unique(found.frames):
        rows = np.arange(*np.searchsorted(found.frames, (frame, frame + 1)))
        objects = np.arange(*np.searchsorted(truth.frames, (frame, frame + 1)))
        inside = _intersections(truth.boxes_xyxy[objects], found.boxes_xyxy[rows])
        ignored = inside[~is_object[objects]].max(axis=0, initial=0.0)
        np.divide(ignored, found_areas[rows], out=ignored, where=ignored > 0)
        dont_care[rows] = ignored
        union = found_areas[rows] + truth_areas[objects, None] - inside
        iou = np.divide(inside, union, out=np.zeros_like(inside), where=inside > 0)
        row, column = np.nonzero((iou > least) & is_object[objects, None])
        pairs.append((objects[row], rows[column], iou[row, column]))
    return Overlaps(*(np.concatenate(part) for part in zip(*pairs, strict=True)), dont_care)


def is_counted(truth: GroundTruth, class_name: str, difficulty: Difficulty) -> np.ndarray:
    """Returns (N,) which objects of a class, in lower case, are to be found."""
    return (
        (truth.types == class_name)
        & (truth.boxes_xyxy[:, 3] - truth.boxes_xyxy[:, 1] >= difficulty.min_height)
        & (truth.occluded <= difficulty.max_occluded)
        & (truth.truncated <= difficulty.max_truncated)
    )


def recall_precisions(
    truth: GroundTruth,
    found: Detections,
    overlaps: Overlaps,
    class_name: str,
    label: int,
    difficulty: Difficulty,
) -> np.ndarray | None:
    """Computes the precision of one class at 41 values of recall.

    In the order of the label file, each object of the class, and of its neighbour, takes one free
    detection whose IoU is above the limit. A first pass, in which it takes that of highest
    score, gives the scores of the true positives and by `recall_scores` the scores to
    measure at. For each of them a second pass uses the detections of at least this score, and
    an object takes that of largest IoU.

    A detection below the minimum height is never counted, but an object may take it in the first
    pass, *whatever its class is*, and then gives no score: the program tests the height before
    the class. In the second pass an object takes it only where there is no other, which
    changes neither count and is left out here. A detection of the class that no object took is
    a false positive unless it is so low or more than the limit's share of its area lies in a
    DontCare box.

    The last step takes the largest precision at this recall or a higher one. A precision of 0/0,
    where the program has NaN, is 0 here: then objects that do not count took all detections.

    Args:
        truth: all objects.
        found: all detections.
        overlaps: of both.
        class_name: key of `MIN_OVERLAPS` in lower case.
        label: the class in `found.labels`.
        difficulty: which objects count.

    Returns:
        (41,) in [0, 1]; None if no object counts.
    """
    limit = MIN_OVERLAPS[class_name]
    counts = is_counted(truth, class_name, difficulty)
    objects = int(counts.sum())
    if objects == 0:
        return None
    takes = np.isin(truth.types, [class_name, NEIGHBOURS.get(class_name, class_name)])
    is_low = np.abs(found.boxes_xyxy[:, 3] - found.boxes_xyxy[:, 1]) < difficulty.min_height
    is_valid = (found.labels == label) & ~is_low

    used = takes[overlaps.truth] & (is_valid | is_low)[overlaps.found] & (overlaps.iou > limit)
    truth_of, found_of, iou = overlaps.truth[used], overlaps.found[used], overlaps.iou[used]
    candidates, found_of = np.unique(found_of, return_inverse=True)
    scores, is_valid_candidate = found.scores[candidates], is_valid[candidates]

    order = np.lexsort((found_of, -scores[found_of], truth_of))
    free = np.ones((len(candidates), 1), dtype=bool)
    takers, taken = _assign(truth.frames, truth_of[order], found_of[order], free)
    is_right = (taken >= 0) & counts[takers, None] & is_valid_candidate[taken]
    thresholds = recall_scores(scores[taken[is_right]], objects)

    order = np.lexsort((found_of, -iou, truth_of))
    free = is_valid_candidate[:, None] & (scores[:, None] >= thresholds)
    takers, taken = _assign(truth.frames, truth_of[order], found_of[order], free)
    is_taken = taken >= 0
    right = (is_taken & counts[takers, None]).sum(axis=0)
    is_wrong = is_valid & (overlaps.dont_care <= limit)  # unless it is taken
    wrong_scores = np.sort(found.scores[is_wrong])
    wrong = len(wrong_scores) - np.searchsorted(wrong_scores, thresholds)
    wrong -= (is_taken & is_wrong[candidates][taken]).sum(axis=0)

    precisions = np.zeros(RECALLS)
    precisions[: len(thresholds)] = right / np.maximum(right + wrong, 1)
    return np.maximum.accumulate(precisions[::-1])[::-1]


def recall_scores(scores: np.ndarray, objects: int) -> np.ndarray:
    """Returns the scores at which the precision is measured, one for each step of recall.

    The i-th highest score has the recall i / `objects`. For the recalls 0, 1/40, 2/40, ... in
    turn, this takes the next score whose recall is at least as near as the following one's, and
    the last score in any case. So fewer than 41 scores give fewer values, and the precisions
    that are missing count as 0: with N < 41 objects, a perfect detector has an AP40 of
    (N - 1) / 40.

    Args:
        scores: of the true positives.
        objects: number of objects that count.

    Returns:
        (T,) with T <= 41, descending.
    """
    scores = np.sort(scores)[::-1]
    recalls = np.arange(1, len(scores) + 1) / objects
    chosen: list[int] = []
    recall, index = 0.0, -1
    while index + 1 < len(scores):
        # of a score and the following one, the following is nearer; true up to some score
        is_farther = recalls[1:] - recall < recall - recalls[:-1]
        index = max(index + 1, np.count_nonzero(is_farther))
        chosen.append(index)
        recall += 1 / (RECALLS - 1)  # a sum, as in the program: 40 steps are not exactly 1
    return scores[chosen]


def average_precisions(precisions: np.ndarray) -> dict[str, float]:
    """Returns AP40 and AP11 in percent.

    AP40 is the mean over the recalls 1/40 to 1, KITTI's figure since 8 October 2019. AP11 is the
    earlier one, the mean over 0, 0.1, ..., 1.

    Args:
        precisions: (41,) in [0, 1].
    """
    return {"AP40": 100 * float(precisions[1:].mean()), "AP11": 100 * float(precisions[::4].mean())}


def _areas(boxes_xyxy: np.ndarray) -> np.ndarray:
    return (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])


def _intersections(boxes_xyxy: np.ndarray, others_xyxy: np.ndarray) -> np.ndarray:
    """Returns the area that each two boxes share: (A, 4) and (B, 4) -> (A, B)."""
    corner = np.maximum(boxes_xyxy[:, None, :2], others_xyxy[:, :2])
    size = np.minimum(boxes_xyxy[:, None, 2:], others_xyxy[:, 2:]) - corner
    return np.where((size > 0).all(axis=-1), size[..., 0] * size[..., 1], 0.0)


def _assign(
    frames: np.ndarray, truth: np.ndarray, found: np.ndarray, free: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lets the objects of each frame take a detection, one after the other.

    The frames are independent, so the first objects of all frames choose together, then the
    second ones. T choices with other free detections are made at a time.

    Args:
        frames: (N,) frame of each object, ascending.
        truth: (P,) object of each candidate pair, ascending.
        found: (P,) detection of each pair; of one object, in the order of preference.
        free: (C, T) bool, which detections may be taken; changed.

    Returns:
        The K objects in `truth`, and (K, T) the detection that each takes, -1 for none.
    """
    objects, number, pairs = np.unique(truth, return_inverse=True, return_counts=True)
    turns = np.arange(len(objects)) - np.searchsorted(frames[objects], frames[objects])
    order = np.argsort(np.repeat(turns, pairs), kind="stable")
    bounds = np.cumsum(np.bincount(turns, weights=pairs).astype(np.int64))
    taken = np.full((len(objects), free.shape[1]), -1)
    for group in np.split(order, bounds[:-1]):
        candidates = found[group]
        starts = np.flatnonzero(np.diff(number[group], prepend=-1))
        places = np.arange(len(group), dtype=np.int32)[:, None]
        places = np.where(free[candidates], places, len(group))
        first = np.minimum.reduceat(places, starts) if len(group) else places
        row, column = np.nonzero(first < len(group))
        chosen = candidates[first[row, column]]
        taken[number[group][starts[row]], column] = chosen
        free[chosen, column] = False
    return objects, taken
