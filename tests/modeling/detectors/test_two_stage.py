"""Proposals around tokens and the choice among them."""

import pytest
import torch

from projects.clockdistill.modeling.detectors.levels import flatten_levels
from projects.clockdistill.modeling.detectors.multi_scale.two_stage import (
    choose_tokens,
    token_proposals,
)


def test_proposals_are_squares_that_double_by_level():
    sizes = [(2, 4), (1, 2)]
    features = [torch.zeros(1, 4, h, w) for h, w in sizes]
    masks = [torch.zeros(1, h, w, dtype=torch.bool) for h, w in sizes]
    masks[0][:, :, 3] = True  # three of four columns valid
    masks[1][:, :, 1] = True
    levels = flatten_levels(features, masks, features, torch.zeros(2, 4))
    boxes_unact, usable = token_proposals(levels)
    assert usable[0].tolist() == [True, True, True, False] * 2 + [True, False]
    boxes = boxes_unact.sigmoid()[0]
    torch.testing.assert_close(boxes[1], torch.tensor([1.5 / 3, 0.5 / 2, 0.05, 0.05]))
    torch.testing.assert_close(boxes[8], torch.tensor([0.5 / 1, 0.5 / 1, 0.1, 0.1]))
    assert boxes_unact[0, ~usable[0]].isposinf().all()


def test_centres_at_the_border_are_not_used():
    # 60 columns: the first centre is 0.5 / 60 < 0.01, the second 1.5 / 60
    features = [torch.zeros(1, 4, 3, 60)]
    levels = flatten_levels(
        features, [torch.zeros(1, 3, 60, dtype=torch.bool)], features, torch.zeros(1, 4)
    )
    usable = token_proposals(levels)[1].view(3, 60)
    assert usable.sum(1).tolist() == [58] * 3
    assert not usable[:, [0, 59]].any()


def test_chooses_by_the_best_class_and_padding_last():
    logits = torch.tensor([[[1.0, -5.0], [0.0, 4.0], [9.0, 9.0], [2.0, 2.0]]])
    padding = torch.tensor([[False, False, True, False]])
    assert choose_tokens(logits, padding, 3).tolist() == [[1, 3, 0]]
    assert choose_tokens(logits, padding, 4).tolist() == [[1, 3, 0, 2]]


def test_fewer_tokens_than_queries_is_named():
    with pytest.raises(ValueError, match=r"two_stage_num_proposals=5, .* only 4 tokens"):
        choose_tokens(torch.zeros(1, 4, 2), torch.zeros(1, 4, dtype=torch.bool), 5)
