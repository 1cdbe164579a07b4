"""The matcher: least cost, one batch equal to many, broken predictions named."""

import itertools

import pytest
import torch

from projects.clockdistill.modeling.detectors.matcher import HungarianMatcher
from projects.clockdistill.modeling.detectors.predictions import Predictions
from tests.modeling.tiny_detectors import random_predictions, random_targets

MATCHER = HungarianMatcher(cost_class=2.0, cost_bbox=5.0, cost_giou=2.0)


def test_finds_the_objects_that_are_predicted_exactly():
    wanted = random_targets(3, 1)
    found = random_predictions(1, 2, 5)
    places = ([4, 0, 2], [3])
    for image, (target, queries) in enumerate(zip(wanted, places, strict=True)):
        found.boxes[0, image, queries] = target["boxes"]
        found.logits[0, image, queries, target["labels"]] = 9.0
    (matches,) = MATCHER([found], wanted)
    triples = zip(matches.image[0], matches.query[0], matches.target[0], strict=True)
    assert {tuple(map(int, t)) for t in triples} == {(0, 4, 0), (0, 0, 1), (0, 2, 2), (1, 3, 3)}


def test_the_assignment_is_the_cheapest_of_all():
    wanted, found = random_targets(3), random_predictions(1, 1, 4)
    cost = MATCHER.costs(found, wanted[0]["labels"][None], wanted[0]["boxes"][None])[0, 0]
    (matches,) = MATCHER([found], wanted)
    ours = cost[matches.query[0], matches.target[0]].sum()
    every = (cost[list(rows), range(3)].sum() for rows in itertools.permutations(range(4), 3))
    torch.testing.assert_close(ours, min(every))


def test_costs_of_a_pair_by_hand():
    # p = 0.5: focal class cost 0.25 * 0.25 * ln 2 - 0.75 * 0.25 * ln 2 = -0.125 ln 2
    # boxes 0.2 apart in x with sides 0.4: L1 0.2; IoU 0.08 / 0.24, hull 0.24: GIoU 1/3
    found = Predictions(torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.5, 0.5, 0.4, 0.4]]]]))
    boxes = torch.tensor([[[0.7, 0.5, 0.4, 0.4]]])
    cost = MATCHER.costs(found, torch.tensor([[1]]), boxes).item()
    assert cost == pytest.approx(2 * -0.125 * 0.693147 + 5 * 0.2 - 2 / 3, abs=1e-4)


def test_all_layers_and_images_at_once_equal_each_alone():
    wanted = random_targets(2, 0, 4)
    groups = [random_predictions(3, 3, 6), random_predictions(1, 3, 9)]
    matched = MATCHER(groups, wanted)
    for group, matches in zip(groups, matched, strict=True):
        for layer in range(len(group.logits)):
            start = 0
            for image, target in enumerate(wanted):
                one = Predictions(
                    group.logits[layer, image][None, None], group.boxes[layer, image][None, None]
                )
                (alone,) = MATCHER([one], [target])
                here = matches.image[layer] == image
                assert torch.equal(matches.query[layer][here], alone.query[0])
                assert torch.equal(matches.target[layer][here], alone.target[0] + start)
                start += len(target["labels"])


def test_more_objects_than_queries_matches_every_query():
    (matches,) = MATCHER([random_predictions(2, 1, 3)], random_targets(5))
    assert matches.query.shape == (2, 3)
    assert matches.query[0].tolist() == [0, 1, 2]


def test_no_object_gives_no_match():
    (matches,) = MATCHER([random_predictions(2, 2, 3)], random_targets(0, 0))
    assert matches.image.shape == matches.query.shape == matches.target.shape == (2, 0)
    assert matches.query.dtype == torch.int64


@pytest.mark.parametrize("part", ["logits", "boxes"])
def test_a_prediction_that_is_not_finite_is_named(part):
    found = random_predictions(2, 2, 3)
    getattr(found, part)[1, 1, 2] = float("nan")
    with pytest.raises(FloatingPointError, match=r"layer 1, image 1 of the batch, query 2 .*nan"):
        MATCHER([found], random_targets(2, 2))


def test_empty_boxes_are_matched_all_the_same():
    found, wanted = random_predictions(1, 1, 2), random_targets(2)
    found.boxes[...] = 0.5
    found.boxes[..., 2:] = 0
    wanted[0]["boxes"] = found.boxes[0, 0].clone()
    (matches,) = MATCHER([found], wanted)
    assert sorted(matches.target[0].tolist()) == [0, 1]
