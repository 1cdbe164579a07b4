"""What is looked at: detections, queries and points, and what captions say of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from projects.clockdistill.errors import UserError
from projects.clockdistill.visualization.attention.maps import attention_map
from projects.clockdistill.visualization.attention.reading import read
from projects.clockdistill.visualization.attention.rows import attention_rows, feature_rows
from projects.clockdistill.visualization.attention.subjects import (
    Column,
    View,
    choose_subject,
    matching_detection,
)
from tests.modeling.tiny_detectors import FAMILIES, batch, tiny_detector

NAMES = ("car", "van", "tram")
SIZE = (64, 96)
EVERYTHING = View(threshold=0.0)


@pytest.fixture(scope="module")
def columns() -> dict[str, Column]:
    """A detector of each family that has seen one image."""
    return {
        name: Column(name, NAMES, read(tiny_detector(name).eval(), batch((0,), (SIZE,))))
        for name in FAMILIES
    }


def found(*rows: tuple[float, float, float, float, int]) -> Instances:
    table = torch.tensor(rows, dtype=torch.float)
    return Instances(SIZE, pred_boxes=Boxes(table[:, :4]), pred_classes=table[:, 4].long())


def test_the_best_match_has_the_largest_overlap_and_rather_the_same_class() -> None:
    box = Boxes(torch.tensor([[0.0, 0, 10, 10]]))
    # IoU 10 * 8 / 100 of a van, 10 * 5 / 100 of a car, which counts twice as much
    detections = found((0, 0, 10, 8, 1), (0, 0, 10, 5, 0), (50, 50, 60, 60, 0))
    assert matching_detection(detections, box, "car", NAMES) == (1, pytest.approx(0.5))
    assert matching_detection(detections, box, "van", NAMES) == (0, pytest.approx(0.8))
    # a neighbour that overlaps a little does not win by its class: 0.8 / 2 > 0.3
    assert matching_detection(found((0, 0, 10, 8, 1), (0, 0, 10, 3, 0)), box, "car", NAMES)[0] == 0
    assert matching_detection(found((50, 50, 60, 60, 0)), box, "car", NAMES)[1] == 0
    assert matching_detection(found((0, 0, 1, 1, 0))[:0], box, "car", NAMES)[1] == 0


def test_classes_are_compared_by_name() -> None:
    box = Boxes(torch.tensor([[0.0, 0, 10, 10]]))
    detections = found((0, 0, 10, 8, 0), (0, 0, 10, 7, 1))
    assert matching_detection(detections, box, "car", NAMES)[0] == 0
    assert matching_detection(detections, box, "car", NAMES[1:] + NAMES[:1])[0] == 0
    assert matching_detection(detections, box, "car", ("van", "car"))[0] == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_a_detection_is_looked_at_by_its_own_query(columns, name) -> None:
    column = columns[name]
    all_found = column.reading.detections
    subject = choose_subject(column, column, View(detection=2), SIZE)
    assert subject.queries == [int(all_found.pred_queries[1])]
    assert subject.boxes[0].xyxy_px == all_found.pred_boxes.tensor[1].tolist()
    label, score = NAMES[int(all_found.pred_classes[1])], float(all_found.scores[1])
    assert subject.text == (
        f"detection 2: {label} {score:.2f}, query {int(all_found.pred_queries[1]) + 1}"
    )


def test_other_columns_follow_the_first_ones_detection(columns) -> None:
    first = columns["dino"]
    wanted = first.reading.detections[1]
    query, label = int(wanted.pred_queries), NAMES[int(wanted.pred_classes)]
    # the other detector finds the same, in another order
    order = torch.arange(len(first.reading.detections)).flip(0)
    reading = replace(first.reading, detections=first.reading.detections[order])
    other = replace(first, title="other", reading=reading)
    subject = choose_subject(other, first, View(detection=2), SIZE)
    assert subject.queries == [query]
    assert subject.text == f"IoU 1.00: {label} {float(wanted.scores):.2f}, query {query + 1}"
    nothing = replace(first, reading=replace(first.reading, detections=reading.detections[:0]))
    subject = choose_subject(nothing, first, View(detection=2), SIZE)
    assert (subject.queries, subject.text) == ([], "no detection where dino has one")
    row = attention_rows([first, nothing], View(detection=2, draw="map"), SIZE)[0]
    assert row.panels[0].heat is not None and row.panels[1].heat is None


def test_by_default_all_detections_of_the_threshold_are_summed(columns) -> None:
    column = columns["dino"]
    scores = column.reading.detections.scores
    threshold = float(scores[4])
    subject = choose_subject(column, column, View(threshold=threshold), SIZE)
    number = int((scores >= threshold).sum())
    assert subject.text == f"{number} detections of score {threshold:g} or more"
    assert len(subject.boxes) == number
    assert len(set(subject.queries)) == len(subject.queries) <= number
    (row,) = attention_rows([column], View(threshold=threshold, draw="map"), SIZE)
    expected = sum(
        attention_map(
            column.reading.attention("decoder", 1, [query]).tokens.mean(0),
            column.reading.masks,
            SIZE,
        )
        for query in subject.queries
    )
    np.testing.assert_allclose(row.panels[0].heat, expected, rtol=1e-4, atol=1e-5)


def test_without_a_detection_of_the_threshold_the_best_one_is_shown(columns) -> None:
    column = columns["dino"]
    subject = choose_subject(column, column, View(threshold=1.0), SIZE)
    assert subject.queries == [int(column.reading.detections.pred_queries[0])]
    assert subject.text.startswith("none of score 1 or more, its best: ")


@pytest.mark.parametrize("name", FAMILIES)
def test_heads_levels_and_layers_add_up(columns, name) -> None:
    column, view = columns[name], View(query=3, draw="map")

    def heats(**changes: object) -> list[np.ndarray]:
        rows = attention_rows([column], replace(view, **changes), SIZE)
        return [row.panels[0].heat for row in rows]

    (whole,) = heats(layer=2)
    np.testing.assert_array_equal(heats()[0], whole)  # the last of two layers
    by_head, by_level = heats(each="head"), heats(each="level")
    assert (len(by_head), len(by_level)) == (2, 1 if name == "dab_detr" else 3)
    np.testing.assert_allclose(sum(by_head) / 2, whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sum(by_level), whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(heats(head=2)[0], by_head[1])
    by_layer = heats(each="layer")
    np.testing.assert_allclose(sum(by_layer) / 2, heats(layer=0)[0], rtol=1e-4, atol=1e-5)


def test_points_are_those_of_the_queries_in_pixels(columns) -> None:
    column = columns["deformable_detr"]
    points, heat = attention_rows([column], View(query=3, head=2, level=1), SIZE)
    seen = column.reading.attention("decoder", 1, [2])
    expected = seen.points[0, 1, 0] * torch.tensor([96.0, 64.0])  # (P, 2) as (x, y)
    np.testing.assert_allclose(points.panels[0].points_px, expected, rtol=1e-5)
    np.testing.assert_allclose(points.panels[0].weights, seen.weights[0, 1, 0], rtol=1e-5)
    assert points.panels[0].title.endswith("head 2 of 2, level 1 of 3, 4 points")
    assert points.panels[0].heat is None and heat.panels[0].heat is not None


def test_a_point_shows_the_encoder_from_its_tokens(columns) -> None:
    column = columns["dab_detr"]
    (row,) = attention_rows([column], View(point_px=(95.0, 0.0)), SIZE)
    panel = row.panels[0]
    mask = column.reading.masks[0]
    last_of_first_row = mask.shape[1] - 1
    tokens = column.reading.attention("encoder", 1, [last_of_first_row]).tokens.mean(0)
    np.testing.assert_array_equal(panel.heat, attention_map(tokens, [mask], SIZE))
    assert "the token at (95, 0)\nencoder layer" in panel.title
    assert panel.cross_px == (95.0, 0.0)


def test_captions_say_what_a_map_does_not_show(columns) -> None:
    column = columns["deformable_detr"]
    (row,) = attention_rows([column], View(query=1, draw="map"), SIZE)
    share = column.reading.attention("decoder", 1, [0]).tokens.mean(0).sum()
    assert row.panels[0].title.endswith(f"all levels; {1 - share:.0%} outside of the image")
    rows = attention_rows([column], View(query=1, draw="map", each="level"), SIZE)
    shares = [row.panels[0].title.rpartition(": ")[2].split("%")[0] for row in rows]
    assert sum(map(int, shares)) == pytest.approx(100 * float(share), abs=2)


def test_features_have_energy_maps_of_neck_and_memory(columns) -> None:
    pair = [columns["dino"], columns["dab_detr"]]
    neck, memory = feature_rows(pair, EVERYTHING, SIZE)
    assert [panel.title.partition(": ")[2].split("\n")[0] for panel in neck.panels] == [
        "neck, mean of all levels",
        "neck",
    ]
    assert memory.panels[0].heat.shape == SIZE
    rows = feature_rows(pair, replace(EVERYTHING, each="level"), SIZE)
    assert len(rows) == 2 * 3
    assert rows[1].panels[1].heat is None  # DAB-DETR has no second level
    np.testing.assert_allclose(
        sum(row.panels[0].heat for row in rows[:3]) / 3, neck.panels[0].heat, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (View(query=8), "query 8 is out of range: the decoder of dino has 7. Fix: use 1 to 7"),
        (View(layer=3), "layer 3 .* has 2"),
        (View(head=3), "head 3 .* has 2"),
        (View(level=4), "level 4 .* has 3"),
        (View(point_px=(96.0, 3.0)), "point 96,3 is outside of the image of 96 x 64 pixels"),
        (View(point_px=(3.0, -1.0)), "outside of the image"),
        (View(point_px=(3.0, 1.0), layer=4), "the encoder of dino has"),
        (View(detection=10**6), "detection 1000000: dino has .* Fix: use 1 to"),
    ],
)
def test_what_there_is_not_is_refused(columns, view, message) -> None:
    with pytest.raises(UserError, match=message) as caught:
        attention_rows([columns["dino"]], view, SIZE)
    assert len(str(caught.value).splitlines()) <= 3


def test_dense_attention_has_no_points(columns) -> None:
    with pytest.raises(UserError, match="DAB-DETR looks at every token"):
        attention_rows([columns["dab_detr"]], View(query=1, draw="points"), SIZE)
    points, heat = attention_rows(
        [columns["dab_detr"], columns["dino"]], View(query=1, draw="both"), SIZE
    )
    assert points.panels[0].title.endswith("no sampling points")
    assert heat.panels[0].heat is not None
