"""Token weights: the masks of eq. (2)-(5), against a literal walk over the cells."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from projects.clockdistill.modeling.token_weights import TokenWeights, box_masks


def literal(boxes, shapes, valid_sizes, alpha, beta, masks):
    """One image: walks over all cells of all levels (boxes cxcywh of the unpadded image)."""
    weights = []
    for (height, width), (valid_h, valid_w) in zip(shapes, valid_sizes, strict=True):
        extents = []
        for cx, cy, w, h in boxes:
            x0 = min(max(math.floor((cx - w / 2) * valid_w + 1e-4), 0), valid_w - 1)
            y0 = min(max(math.floor((cy - h / 2) * valid_h + 1e-4), 0), valid_h - 1)
            x1 = max(min(math.ceil((cx + w / 2) * valid_w - 1e-4), valid_w) - 1, x0)
            y1 = max(min(math.ceil((cy + h / 2) * valid_h - 1e-4), valid_h) - 1, y0)
            extents.append((x0, y0, x1, y1))
        grid = {}
        for p in range(height * width):
            i, j = p // width, p % width  # eq. (2)
            if i >= valid_h or j >= valid_w:
                continue
            areas = [
                (x1 - x0 + 1) * (y1 - y0 + 1)
                for x0, y0, x1, y1 in extents
                if x0 <= j <= x1 and y0 <= i <= y1
            ]
            grid[p] = min(areas) if areas else None  # eq. (4): the smallest box
        background = sum(area is None for area in grid.values())  # N_bg
        for p in range(height * width):
            if p not in grid:
                weights.append(0.0)
            elif masks == "none":
                weights.append(alpha / len(grid))
            elif grid[p] is None:
                weights.append(beta / (background if masks == "location_scale" else 1))
            else:
                weights.append(alpha / (grid[p] if masks == "location_scale" else 1))
    return weights


def padding(shapes, valid_sizes):
    """Masks of one image whose levels are valid up to `valid_sizes` (H, W)."""
    masks = []
    for shape, (valid_h, valid_w) in zip(shapes, valid_sizes, strict=True):
        mask = torch.ones(1, *shape, dtype=torch.bool)
        mask[:, :valid_h, :valid_w] = False
        masks.append(mask)
    return masks


def one_image(boxes):
    return [{"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.zeros(len(boxes))}]


boxes_strategy = st.lists(
    st.tuples(*[st.floats(0.05, 0.95)] * 2, *[st.floats(0.001, 0.9)] * 2), max_size=5
)


@settings(deadline=None, max_examples=60)
@given(
    boxes=boxes_strategy,
    beta=st.sampled_from([0.0, 0.5]),
    masks=st.sampled_from(["none", "location", "location_scale"]),
    data=st.data(),
)
def test_equals_the_literal_walk(boxes, beta, masks, data):
    shapes = data.draw(
        st.lists(st.tuples(st.integers(1, 7), st.integers(1, 9)), min_size=1, max_size=3)
    )
    valid = [
        (data.draw(st.integers(1, height)), data.draw(st.integers(1, width)))
        for height, width in shapes
    ]
    value = TokenWeights(2.0, beta, masks)(one_image(boxes), padding(shapes, valid))
    expected = torch.tensor([literal(boxes, shapes, valid, 2.0, beta, masks)])
    torch.testing.assert_close(value, expected)


def test_every_object_counts_alike_at_every_level():
    # a large box left, a small one right, apart from each other at both levels
    boxes = [(0.25, 0.5, 0.5, 1.0), (0.9, 0.5, 0.05, 0.1)]
    shapes = [(8, 16), (4, 8)]
    value = TokenWeights(alpha=1.0, beta=0.0)(one_image(boxes), padding(shapes, shapes))
    for level, (height, width) in zip(value[0].split([128, 32]), shapes, strict=True):
        grid = level.view(height, width)
        assert grid[:, : width // 2].sum().item() == pytest.approx(1)
        assert grid[:, width // 2 :].sum().item() == pytest.approx(1)


@pytest.mark.parametrize("masks", ["none", "location", "location_scale"])
def test_an_image_weighs_the_same_alone_and_in_a_batch_of_other_counts(masks):
    (level,) = padding([(4, 6)], [(4, 6)])
    many = one_image([(0.2, 0.2, 0.3, 0.3), (0.7, 0.6, 0.2, 0.5)])
    few = one_image([(0.5, 0.5, 0.2, 0.2)])
    weights = TokenWeights(alpha=1.0, beta=0.5, masks=masks)
    batch = weights(many + few + one_image([]), [level.repeat(3, 1, 1)])
    for image, targets in zip(batch, (many, few, one_image([])), strict=True):
        torch.testing.assert_close(image, weights(targets, [level])[0])


def masks_of(boxes, size, valid=None):
    """Both masks of one level and image of (H, W) cells, valid up to (H, W) `valid`."""
    (level,) = padding([size], [valid or size])
    return [mask[0] for mask in box_masks(one_image(boxes), level)]


def test_a_box_shares_1_among_its_cells_and_the_background_shares_1():
    # 2 x 4 cells; the box covers the right half
    foreground, background = masks_of([(0.75, 0.5, 0.5, 1.0)], (2, 4))
    assert foreground.tolist() == [[0, 0, 0.25, 0.25]] * 2
    assert background.tolist() == [[0.25, 0.25, 0, 0]] * 2


def test_a_box_thinner_than_a_cell_keeps_one():
    foreground, _ = masks_of([(0.3, 0.8, 1e-4, 1e-4)], (2, 2))
    assert foreground.tolist() == [[0, 0], [1, 0]]  # left column, lower row


def test_boxes_are_measured_in_the_unpadded_image():
    # 4 x 8 cells, of which 2 x 4 are image: the box over its right half, padding has neither
    foreground, background = masks_of([(0.75, 0.5, 0.5, 1.0)], (4, 8), valid=(2, 4))
    assert foreground.nonzero().tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]
    assert background.nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_padding_alone_has_neither():
    foreground, background = masks_of([], (2, 2), valid=(0, 0))
    assert not foreground.any() and not background.any()


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match="alpha=-1"):
        TokenWeights(alpha=-1)


def test_unknown_masks_are_refused():
    with pytest.raises(ValueError, match="masks='scale'"):
        TokenWeights(masks="scale")
