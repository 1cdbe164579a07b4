"""The query axis: offsets, isolation and filler. What entered a transformer: padding."""

import torch

from projects.clockdistill.modeling.structures import FeatureLevels, QueryGroup, QueryLayout


def group(count, valid=None):
    return QueryGroup("g", torch.zeros(2, count, 4), torch.full((2, count, 4), 0.5), valid=valid)


def test_offsets_follow_the_order_of_the_groups():
    layout = QueryLayout(3, (group(2), group(4)))
    assert layout.own == slice(0, 3)
    assert layout.group_slices == [slice(3, 5), slice(5, 9)]
    assert layout.block_sizes == (3, 2, 4)
    assert layout.total == 9


def test_without_filler_nothing_is_hidden():
    assert QueryLayout(2, (group(1),)).paddings(None) == (None, None)


def test_filler_is_hidden_unless_a_group_has_nothing_else():
    valid = torch.tensor([[True, False], [False, False]])
    own, hidden = QueryLayout(1, (group(2, valid),)).paddings(None)
    assert own is None
    assert hidden.tolist() == [[False, True], [False, False]]


def test_the_own_padding_is_kept():
    own = torch.tensor([[True], [False]])
    assert QueryLayout(1, (group(2),)).paddings(own) == (own, None)


def test_without_the_own_queries_their_masks_are_left_out():
    layout = QueryLayout(0, (group(2),))
    assert not layout.keeps_own
    assert layout.block_sizes == (2,)
    assert layout.paddings(torch.ones(2, 5, dtype=torch.bool)) == (None,)


def test_levels_know_their_padding():
    masks = torch.zeros(2, 2, 4, dtype=torch.bool), torch.zeros(2, 1, 2, dtype=torch.bool)
    masks[0][1, :, 1:] = True  # the second image fills one of four columns,
    masks[0][1, 1:] = True  # and one of two rows
    masks[1][1, :, 1:] = True
    levels = FeatureLevels((), masks)
    assert levels.shapes == [(2, 4), (1, 2)]
    assert levels.padding_mask.sum(1).tolist() == [0, 8]
    expected = [[[1.0, 1.0], [1.0, 1.0]], [[0.25, 0.5], [0.5, 1.0]]]
    torch.testing.assert_close(levels.valid_ratios, torch.tensor(expected))
