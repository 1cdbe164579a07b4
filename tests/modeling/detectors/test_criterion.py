"""The criterion: each loss by hand, names and weights, batches without objects, many ranks."""

import math
from unittest.mock import patch

import pytest
import torch
from torch import distributed

from projects.clockdistill.modeling.detectors.criterion import SetCriterion
from projects.clockdistill.modeling.detectors.matcher import HungarianMatcher, Matches
from projects.clockdistill.modeling.detectors.predictions import Predictions
from tests.modeling.tiny_detectors import random_predictions, random_targets

WEIGHTS = {"loss_class": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}


def criterion(**weights: float) -> SetCriterion:
    return SetCriterion(3, HungarianMatcher(2.0, 5.0, 2.0), WEIGHTS | weights)


def test_losses_of_one_layer_by_hand():
    # Two queries, three classes, all probabilities 0.5; query 1 is matched to the only object.
    # Focal, per logit: 1 positive 0.25 * 0.5^2 * ln 2, 5 negatives 0.75 * 0.5^2 * ln 2.
    # Boxes 0.2 apart in x with sides 0.4: L1 0.2; IoU = GIoU = 1/3. Divided by 2 boxes.
    found = Predictions(
        torch.zeros(1, 1, 2, 3), torch.tensor([[[[0.1, 0.1, 0.1, 0.1], [0.5, 0.5, 0.4, 0.4]]]])
    )
    wanted = [{"labels": torch.tensor([2]), "boxes": torch.tensor([[0.7, 0.5, 0.4, 0.4]])}]
    matches = Matches(*(torch.tensor([[i]]) for i in (0, 1, 0)))
    losses = criterion().layer_losses(found, matches, wanted, torch.tensor(2.0))
    expected = {
        "loss_class": (0.25 + 5 * 0.75) * 0.25 * math.log(2) / 2,
        "loss_bbox": 0.2 / 2,
        "loss_giou": (1 - 1 / 3) / 2,
    }
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, abs=1e-5), name


def test_every_layer_equals_itself_alone():
    found, encoder = random_predictions(3, 2, 5), random_predictions(1, 2, 7)
    wanted = random_targets(2, 1)
    losses = criterion()(found, wanted, encoder)
    names = {"": 2, "_0": 0, "_1": 1}
    assert set(losses) == {n + s for n in WEIGHTS for s in [*names, "_enc"]}
    for suffix, layer in names.items():
        alone = Predictions(found.logits[layer : layer + 1], found.boxes[layer : layer + 1])
        for name, value in criterion()(alone, wanted).items():
            torch.testing.assert_close(losses[name + suffix], value)
    for name, value in criterion()(encoder, wanted).items():
        torch.testing.assert_close(losses[f"{name}_enc"], value)


def test_a_base_weight_holds_everywhere_and_a_full_name_for_itself():
    found, encoder = random_predictions(2, 1, 5), random_predictions(1, 1, 5)
    wanted = random_targets(2)
    plain = criterion()(found, wanted, encoder)
    changed = criterion(loss_bbox=10.0, loss_bbox_0=0.5)(found, wanted, encoder)
    factors = {"loss_bbox": 2.0, "loss_bbox_enc": 2.0, "loss_bbox_0": 0.1}
    for name, value in plain.items():
        torch.testing.assert_close(changed[name], factors.get(name, 1.0) * value)


@pytest.mark.parametrize("weights", [{"loss_class": 1.0}, WEIGHTS | {"loss_mask": 1.0}])
def test_weights_that_are_missing_or_unknown_are_refused(weights):
    with pytest.raises(ValueError, match=r"lacks .* unknown"):
        SetCriterion(3, HungarianMatcher(), weights)


def test_a_batch_without_objects_trains_classes_and_keeps_the_box_graph():
    found = random_predictions(2, 2, 4)
    found.logits.requires_grad_()
    found.boxes.requires_grad_()
    losses = criterion()(found, random_targets(0, 0))
    sum(losses.values()).backward()
    assert losses["loss_class"] > 0 and losses["loss_bbox"] == losses["loss_giou"] == 0
    assert found.logits.grad.any()
    assert found.boxes.grad is not None and not found.boxes.grad.any()


def test_half_precision_predictions_are_judged_in_float32():
    found, wanted = random_predictions(2, 1, 4), random_targets(2)
    half = Predictions(found.logits.bfloat16(), found.boxes.bfloat16())
    exact = Predictions(half.logits.float(), half.boxes.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = criterion()(half, wanted)
    for name, value in criterion()(exact, wanted).items():
        assert losses[name].dtype == torch.float32
        torch.testing.assert_close(losses[name], value)


def test_boxes_are_counted_over_all_ranks_and_at_least_one():
    def other_rank_has_six(count):
        count += 6

    count = criterion().count_boxes
    assert count(random_targets(0, 0), torch.device("cpu")) == 1
    assert count(random_targets(2, 1), torch.device("cpu")) == 3
    with (
        patch.object(distributed, "is_initialized", return_value=True),
        patch.object(distributed, "get_world_size", return_value=2),
        patch.object(distributed, "all_reduce", other_rank_has_six),
    ):
        assert count(random_targets(2, 0), torch.device("cpu")) == 4  # (2 + 6) / 2
