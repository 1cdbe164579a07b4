"""KITTI's rules, against a plain transcription and against cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projects.clockdistill.evaluation.kitti_rules import (
    DIFFICULTIES,
    average_precisions,
    find_overlaps,
    recall_precisions,
    recall_scores,
)
from tests.evaluation.kitti_reference import Found, Thing, as_arrays, precisions, sampled
from tests.fuzzing import fuzz

CLASSES = ["car", "pedestrian", "van", "person_sitting", "cyclist"]


def measure(
    things: list[Thing], found: list[Found], name: str, level: str
) -> dict[str, float] | None:
    curve = curve_of(things, found, name, level)
    return None if curve is None else average_precisions(curve)


def curve_of(things: list[Thing], found: list[Found], name: str, level: str) -> np.ndarray | None:
    truth, detections = as_arrays(things, found, CLASSES)
    overlaps = find_overlaps(truth, detections)
    label = CLASSES.index(name)
    return recall_precisions(truth, detections, overlaps, name, label, DIFFICULTIES[level])


def assert_equal(things: list[Thing], found: list[Found]) -> None:
    for name in CLASSES:
        for level in DIFFICULTIES:
            expected = precisions(things, found, name, level)
            curve = curve_of(things, found, name, level)
            assert (curve is None) == (expected is None)
            if curve is not None:
                assert curve.tolist() == expected


# ------------------------------------------------------------------ against the transcription

# Few values: equal scores, equal overlaps and overlaps of exactly 0.5 and 0.7 are frequent, and
# heights lie on both sides of 25 and 40.
boxes = st.builds(
    lambda left, top, width, height: (left, top, left + width, top + height),
    st.sampled_from([0.0, 2.0, 12.0]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([20.0, 28.0, 40.0]),
    st.sampled_from([24.0, 25.0, 30.0, 39.5, 40.0]),
)
frames = st.integers(0, 1)
things = st.builds(
    Thing,
    frames,
    st.sampled_from(["car", "car", "pedestrian", "van", "person_sitting", "misc", "dontcare"]),
    boxes,
    st.sampled_from([0.0, 0.15, 0.3, 0.31, 0.5, -1.0]),
    st.sampled_from([0, 0, 1, 2, 3, -1]),
)
detections = st.builds(
    Found,
    frames,
    st.sampled_from(["car", "car", "pedestrian", "van", "cyclist"]),
    boxes,
    st.sampled_from([0.2, 0.4, 0.6, 0.8]),
)


@fuzz(60)
@given(st.lists(things, min_size=2, max_size=8), st.lists(detections, min_size=2, max_size=10))
def test_fuzz_precisions_are_those_of_the_transcription(
    objects: list[Thing], found: list[Found]
) -> None:
    assert_equal(objects, found)


def test_precisions_of_many_objects_are_those_of_the_transcription() -> None:
    # so many that recall steps are skipped, which a few objects never need
    rng = np.random.default_rng(0)
    objects, found = [], []
    for frame in range(50):
        for index in range(rng.integers(1, 6)):
            if index % 2 == 0:  # the next one lies near
                left, top, width, height = rng.uniform((0, 0, 30, 20), (200, 200, 90, 80))
            near = rng.normal(0, 2, 4)
            box = (left + near[0], top + near[1], left + width + near[2], top + height + near[3])
            kind = ("car", "van", "pedestrian", "dontcare")[rng.choice(4, p=(0.6, 0.1, 0.2, 0.1))]
            objects.append(Thing(frame, kind, box, 0.0, int(rng.integers(3))))
            for _ in range(rng.integers(0, 4)):
                moved = tuple(float(edge) for edge in np.array(box) + rng.normal(0, 3, 4))
                kind = CLASSES[rng.choice(5, p=(0.6, 0.2, 0.1, 0.05, 0.05))]
                found.append(Found(frame, kind, moved, float(rng.random())))
    assert_equal(objects, found)


def test_sampled_scores_are_those_of_the_transcription() -> None:
    # 60, 100 and others have steps of recall that lie exactly between two scores' recalls
    for total in range(1, 250):
        for count in (total, total // 2):
            hits = [1 - index / total for index in range(count)]
            chosen = recall_scores(np.array(hits), total).tolist()
            assert chosen == sampled(hits, total)
            assert len(chosen) <= 41


# ------------------------------------------------------------------ by hand

CAR = (0.0, 0.0, 100.0, 50.0)
AWAY = (200.0, 0.0, 300.0, 50.0)
# 41 cars, all found at score 0.5, so that 41 scores are sampled and the AP40 is 100
CARS = [Thing(frame, "car", CAR) for frame in range(41)]
FOUND = [Found(frame, "car", CAR, 0.5) for frame in range(41)]
RIGHT = 100.0
# An additional detection of score 0.9 that is wrong: 41 of 42 at each of the sampled scores.
WRONG = 100 * 41 / 42
# An additional object that is missed: 41 of 42, whose recall is nearest to 39/40. The 40 scores
# sampled, for 0/40 to 39/40, have precision 1 and the last recall has 0: 39 of 40.
MISSED = 97.5


def sized(height: float, left: float = 200.0) -> tuple[float, float, float, float]:
    return (left, 0.0, left + 100.0, height)


# level, an object that is added, a detection that is added, AP40 of cars
CASES = {
    "nothing": ("easy", None, None, RIGHT),
    "on nothing": ("easy", None, ("car", AWAY), WRONG),
    "of another class on nothing": ("easy", None, ("van", AWAY), RIGHT),
    # a detection is taken once
    "a second car in the same place": ("easy", Thing(0, "car", CAR), None, MISSED),
    "a second one on a car": ("easy", None, ("car", (1.0, 0.0, 101.0, 50.0)), WRONG),
    # height: 40, 25 and 25, of objects and of detections
    "low object": ("easy", Thing(0, "car", sized(39.9)), None, RIGHT),
    "high object": ("easy", Thing(0, "car", sized(40)), None, MISSED),
    "low object, moderate": ("moderate", Thing(0, "car", sized(24.9)), None, RIGHT),
    "high object, moderate": ("moderate", Thing(0, "car", sized(25)), None, MISSED),
    "low detection": ("easy", None, ("car", sized(39.9)), RIGHT),
    "high detection": ("easy", None, ("car", sized(40)), WRONG),
    "low detection, hard": ("hard", None, ("car", sized(24.9)), RIGHT),
    "high detection, hard": ("hard", None, ("car", sized(25)), WRONG),
    # a detection of 24 on an object of 25, IoU 0.96: neither found nor missed, so that 42 count
    # and 41 are right, as if it were missed; of whatever class the low detection is
    "low detection on an object": (
        *("moderate", Thing(0, "car", sized(25)), ("car", sized(24)), MISSED),
    ),
    # occlusion 0, 1, 2 and truncation 0.15, 0.30, 0.50
    "occluded": ("easy", Thing(0, "car", AWAY, 0, 1), None, RIGHT),
    "occluded, moderate": ("moderate", Thing(0, "car", AWAY, 0, 1), None, MISSED),
    "largely occluded, moderate": ("moderate", Thing(0, "car", AWAY, 0, 2), None, RIGHT),
    "largely occluded, hard": ("hard", Thing(0, "car", AWAY, 0, 2), None, MISSED),
    "unknown occlusion": ("hard", Thing(0, "car", AWAY, 0, 3), None, RIGHT),
    "truncated 0.15": ("easy", Thing(0, "car", AWAY, 0.15), None, MISSED),
    "truncated 0.16": ("easy", Thing(0, "car", AWAY, 0.16), None, RIGHT),
    "truncated 0.30": ("moderate", Thing(0, "car", AWAY, 0.30), None, MISSED),
    "truncated 0.31": ("moderate", Thing(0, "car", AWAY, 0.31), None, RIGHT),
    "truncated 0.50": ("hard", Thing(0, "car", AWAY, 0.50), None, MISSED),
    "truncated 0.51": ("hard", Thing(0, "car", AWAY, 0.51), None, RIGHT),
    "no mark": ("easy", Thing(0, "car", AWAY, -1, -1), None, MISSED),
    # to find what does not count is not wrong, with an IoU above the limit only
    "on an occluded car": ("easy", Thing(0, "car", AWAY, 0, 1), ("car", AWAY), RIGHT),
    # 100 x 50 and 70 x 50: 0.7, which is not above 0.7
    "near an occluded car": (
        *("easy", Thing(0, "car", AWAY, 0, 1), ("car", (200.0, 0.0, 270.0, 50.0)), WRONG),
    ),
    "nearer to an occluded car": (
        *("easy", Thing(0, "car", AWAY, 0, 1), ("car", (200.0, 0.0, 271.0, 50.0)), RIGHT),
    ),
    # neighbours
    "on a van": ("easy", Thing(0, "van", AWAY), ("car", AWAY), RIGHT),
    "on a truck": ("easy", Thing(0, "truck", AWAY), ("car", AWAY), WRONG),
    "on a person sitting": ("easy", Thing(0, "person_sitting", AWAY), ("car", AWAY), WRONG),
    # DontCare: more than 0.7 of the detection's area, however large the box is
    "in a DontCare": ("easy", Thing(0, "dontcare", (150, 0, 900, 300)), ("car", AWAY), RIGHT),
    "0.7 in a DontCare": (
        *("easy", Thing(0, "dontcare", (230, 0, 900, 300)), ("car", AWAY), WRONG),
    ),
    "0.71 in a DontCare": (
        *("easy", Thing(0, "dontcare", (229, 0, 900, 300)), ("car", AWAY), RIGHT),
    ),
    "around a DontCare": ("easy", Thing(0, "dontcare", (210, 0, 220, 50)), ("car", AWAY), WRONG),
    # a car in a DontCare is found all the same
    "DontCare on a car": ("easy", Thing(0, "dontcare", CAR), None, RIGHT),
}


@pytest.mark.parametrize("case", CASES)
def test_rules_by_hand(case: str) -> None:
    level, thing, detection, expected = CASES[case]
    objects = [*CARS, *([thing] if thing else [])]
    found = [*FOUND, *([Found(0, *detection, 0.9)] if detection else [])]
    assert measure(objects, found, "car", level)["AP40"] == pytest.approx(expected)


def test_two_dont_care_boxes_do_not_add_up() -> None:
    halves = [Thing(0, "dontcare", (200, 0, 250, 50)), Thing(0, "dontcare", (250, 0, 300, 50))]
    found = [*FOUND, Found(0, "car", AWAY, 0.9)]
    assert measure([*CARS, *halves], found, "car", "easy")["AP40"] == pytest.approx(WRONG)


def test_overlaps_of_pedestrians_are_above_one_half() -> None:
    # 0.5 of 20 x 40 is no match for a pedestrian; 0.525 is
    thing = Thing(0, "pedestrian", (0, 0, 20, 40))
    for right, expected in ((10.0, 0.0), (10.5, 100 / 11)):
        found = [Found(0, "pedestrian", (0, 0, right, 40), 0.9)]
        assert measure([thing], found, "pedestrian", "easy")["AP11"] == pytest.approx(expected)


def test_fewer_than_41_objects_cannot_reach_100() -> None:
    # n scores are sampled, for the recalls 0/40 to (n - 1)/40; at 11 points, every fourth counts
    for count, at_40, at_11 in ((1, 0, 1 / 11), (5, 4 / 40, 2 / 11), (40, 39 / 40, 10 / 11)):
        figures = measure(CARS[:count], FOUND[:count], "car", "easy")
        assert figures == pytest.approx({"AP40": 100 * at_40, "AP11": 100 * at_11})
    assert measure(CARS, FOUND, "car", "easy") == {"AP40": 100, "AP11": 100}


def test_the_precision_never_rises_with_recall() -> None:
    # Two frames: the detection of score 0.9 is wrong, those of 0.8 and 0.7 are right. At 0.8, one
    # of two; at 0.7, two of three, which holds for the lower recall as well.
    found = [Found(0, "car", AWAY, 0.9), Found(0, "car", CAR, 0.8), Found(1, "car", CAR, 0.7)]
    curve = curve_of(CARS[:2], found, "car", "easy")
    assert curve[:3].tolist() == [2 / 3, 2 / 3, 0]


def test_scores_come_from_the_detection_of_highest_score() -> None:
    # Of the two on the car, the one of 0.9 gives the score to measure at, 0.9, where there is
    # nothing else. Measured at 0.8, the score of that which fits better, one of three is right.
    found = [
        Found(0, "car", (10.0, 0.0, 110.0, 50.0), 0.9),
        Found(0, "car", AWAY, 0.85),
        Found(0, "car", CAR, 0.8),
    ]
    assert curve_of(CARS[:1], found, "car", "easy")[0] == 1


def test_an_object_takes_the_detection_of_largest_overlap() -> None:
    # In a DontCare, that of score 0.9 is not wrong if the car took the other one, and the other
    # one would be wrong if the car took this.
    loose = (-15.0, 0.0, 85.0, 50.0)  # 85 of 115
    objects = [*CARS, Thing(0, "dontcare", (-100.0, 0.0, 60.0, 50.0))]  # 75 of 100 of it
    found = [Found(0, "car", loose, 0.9), *FOUND]
    assert measure(objects, found, "car", "easy")["AP40"] == RIGHT


def test_a_low_detection_of_another_class_hides_an_object() -> None:
    # As in KITTI's program. With the higher score, it is what the object takes in the first pass,
    # so that no score is left to measure at.
    thing = Thing(0, "car", sized(26))
    found = [Found(0, "cyclist", sized(24), 0.9), Found(0, "car", sized(26), 0.8)]
    assert measure([thing], found, "car", "moderate")["AP11"] == 0
    assert measure([thing], found[1:], "car", "moderate")["AP11"] == pytest.approx(100 / 11)
    # of equal scores, the first one is taken
    found[1] = Found(0, "car", sized(26), 0.9)
    assert measure([thing], found, "car", "moderate")["AP11"] == 0
    assert measure([thing], found[::-1], "car", "moderate")["AP11"] == pytest.approx(100 / 11)


def test_the_first_of_equal_scores_and_equal_overlaps_is_taken() -> None:
    # The two have the same IoU with the car, 80 of 120; only the left one lies in a DontCare. If
    # it comes first, the car takes it and the right one is wrong.
    left, right = (
        Found(0, "pedestrian", (-20.0, 0.0, 80.0, 50.0), 0.9),
        Found(0, "pedestrian", (20.0, 0.0, 120.0, 50.0), 0.9),
    )
    objects = [Thing(0, "pedestrian", CAR), Thing(0, "dontcare", (-100.0, 0.0, 60.0, 50.0))]
    assert curve_of(objects, [left, right], "pedestrian", "easy")[0] == 0.5
    assert curve_of(objects, [right, left], "pedestrian", "easy")[0] == 1


def test_nothing_counts_or_nothing_is_found() -> None:
    assert measure([], FOUND, "car", "easy") is None
    assert measure([Thing(0, "van", CAR)], FOUND, "car", "easy") is None
    assert measure(CARS, [], "car", "easy") == {"AP40": 0, "AP11": 0}
