"""Boxes on one level, by hand; the token weights' test walks over every cell of random ones."""

import torch

from projects.clockdistill.modeling.box_masks import box_masks


def masks_of(boxes, size, valid=None):
    """Both masks of one image of (H, W) cells, valid up to (H, W) `valid`, as (H, W) each."""
    valid = valid or size
    padding = torch.ones(1, *size, dtype=torch.bool)
    padding[:, : valid[0], : valid[1]] = False
    targets = [{"boxes": torch.tensor(boxes).reshape(-1, 4)}]
    cells = torch.tensor([[valid[1], valid[0]]], dtype=torch.float32)
    return [mask[0] for mask in box_masks(targets, cells, padding)]


def test_a_box_shares_1_among_its_cells_and_the_background_shares_1():
    # 2 x 4 cells; the box covers the right half
    foreground, background = masks_of([(0.75, 0.5, 0.5, 1.0)], (2, 4))
    assert foreground.tolist() == [[0, 0, 0.25, 0.25]] * 2
    assert background.tolist() == [[0.25, 0.25, 0, 0]] * 2


def test_a_box_thinner_than_a_cell_keeps_one():
    foreground, _ = masks_of([(0.3, 0.8, 1e-4, 1e-4)], (2, 2))
    assert foreground.tolist() == [[0, 0], [1, 0]]  # left column, lower row


def test_the_smallest_box_wins():
    # 4 x 4 cells; a box over everything and one over the upper left cell
    boxes = [(0.5, 0.5, 1.0, 1.0), (0.125, 0.125, 0.25, 0.25)]
    foreground, background = masks_of(boxes, (4, 4))
    assert foreground[0, 0] == 1 and not background.any()
    torch.testing.assert_close(foreground.flatten()[1:], torch.full((15,), 1 / 16))


def test_boxes_are_measured_in_the_unpadded_image():
    # 4 x 8 cells, of which 2 x 4 are image: the box over its right half, padding has neither
    foreground, background = masks_of([(0.75, 0.5, 0.5, 1.0)], (4, 8), valid=(2, 4))
    assert foreground.nonzero().tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]
    assert background.nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_padding_alone_has_neither():
    foreground, background = masks_of([], (2, 2), valid=(0, 0))
    assert not foreground.any() and not background.any()
