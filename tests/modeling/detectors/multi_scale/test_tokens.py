"""Levels as tokens, masks, ratios and centres by hand; proposals and the choice among them."""

import dataclasses

import pytest
import torch

from projects.clockdistill.modeling.detectors.base import level_masks
from projects.clockdistill.modeling.detectors.multi_scale.tokens import (
    choose_tokens,
    flatten_levels,
    token_proposals,
)


def levels():
    """Two images in a batch of 32 x 64; the second is 20 x 40. Strides 8 and 16."""
    mask = torch.zeros(2, 32, 64, dtype=torch.bool)
    mask[1, 20:] = True
    mask[1, :, 40:] = True
    features = [torch.randn(2, 4, 4, 8), torch.randn(2, 4, 2, 4)]
    masks = level_masks(mask, features)
    positions = [torch.zeros_like(x) for x in features]
    embeds = torch.tensor([[1.0] * 4, [2.0] * 4])
    return flatten_levels(features, masks, positions, embeds), features, masks


def test_a_cell_that_holds_any_pixel_of_the_image_is_valid():
    _, _, masks = levels()
    # 20 / 8 = 2.5 -> 3 rows, 40 / 8 = 5 columns; 20 / 16 -> 2 rows, 40 / 16 -> 3 columns
    valid = [(~m[1]).nonzero().amax(0).add(1).tolist() for m in masks]
    assert valid == [[3, 5], [2, 3]]
    assert [int((~m[1]).sum()) for m in masks] == [15, 6]
    assert not any(m[0].any() for m in masks)


def test_tokens_lie_level_after_level_and_row_after_row():
    rows, features, masks = levels()
    assert rows.spatial_shapes == [(4, 8), (2, 4)]
    torch.testing.assert_close(rows.tokens[:, 8 * 2 + 3], features[0][:, :, 2, 3])
    torch.testing.assert_close(rows.tokens[:, 32 + 4 + 1], features[1][:, :, 1, 1])
    assert torch.equal(rows.padding_mask[:, 32:], masks[1].flatten(1))
    assert rows.positions[0, :, 0].tolist() == [1.0] * 32 + [2.0] * 8


def test_valid_ratios_are_width_first():
    ratios = levels()[0].valid_ratios
    expected = torch.tensor([[5 / 8, 3 / 4], [3 / 4, 2 / 2]])
    torch.testing.assert_close(ratios, torch.stack((torch.ones(2, 2), expected)))


def test_centres_and_reference_points():
    rows = levels()[0]
    # cell (row 1, column 2) of level 0, in 5 x 3 valid cells and in 8 x 4 cells
    torch.testing.assert_close(rows.centres[1, 10], torch.tensor([2.5 / 5, 1.5 / 3]))
    points = rows.reference_points()
    torch.testing.assert_close(points[1, 10, 0], torch.tensor([2.5 / 8, 1.5 / 4]))
    # the same place on level 1: 2.5 / 5 of its 3 / 4 and 1.5 / 3 of its 2 / 2
    torch.testing.assert_close(points[1, 10, 1], torch.tensor([0.5 * 3 / 4, 0.5]))


def test_proposals_are_squares_twice_as_large_on_each_level():
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


@pytest.mark.parametrize("rounding", [1 - 2**-23, 1.0, 1 + 2**-23])
def test_rounding_decides_nothing_at_the_border(rounding: float) -> None:
    # 0.5 / 50 = 0.01: the first cells of 50 x 150 lie at the border itself, rows 0 and 49 and
    # columns 1 ((1.5) / 150 = 0.01) and 148; runtimes may be off by one unit in the last place
    shape = (50, 150)
    features = torch.zeros(1, 4, *shape)
    mask = torch.zeros(1, *shape, dtype=torch.bool)
    levels = flatten_levels([features], [mask], [features], torch.zeros(1, 4))
    levels = dataclasses.replace(levels, centres=levels.centres * rounding)
    usable = token_proposals(levels)[1].view(shape)
    assert not usable[[0, 49]].any() and not usable[:, [0, 1, 148, 149]].any()
    assert usable[1:49, 2:148].all()


def test_chooses_by_the_best_class_and_padding_last():
    logits = torch.tensor([[[1.0, -5.0], [0.0, 4.0], [9.0, 9.0], [2.0, 2.0]]])
    padding = torch.tensor([[False, False, True, False]])
    assert choose_tokens(logits, padding, 3).tolist() == [[1, 3, 0]]
    assert choose_tokens(logits, padding, 4).tolist() == [[1, 3, 0, 2]]
