"""Sine encodings: padding, cell centres, the order of coordinates."""

import math

import pytest
import torch

from projects.clockdistill.modeling.detectors.layers.position_encoding import (
    PositionEmbeddingSine,
    box_features,
    reference_features,
    sine_features,
)


def test_sine_features_are_pairs_of_sine_and_cosine():
    # wavelengths 2 pi * 100^(0/4) and 2 pi * 100^(2/4)
    expected = torch.tensor([math.sin(3), math.cos(3), math.sin(0.3), math.cos(0.3)])
    torch.testing.assert_close(sine_features(torch.tensor(3.0), 4, 100.0), expected)


@pytest.mark.parametrize("num_feats", [8, 128])
def test_reference_features_come_as_y_x_w_h(num_feats):
    box = torch.tensor([0.1, 0.2, 0.3, 0.4])
    expected = [sine_features(2 * math.pi * box[i], num_feats, 10000.0) for i in (1, 0, 2, 3)]
    torch.testing.assert_close(reference_features(box, num_feats), torch.cat(expected))


def test_box_features_keep_the_order_of_the_coordinates():
    boxes = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]])
    expected = [sine_features(2 * math.pi * boxes[:, i], 6, 10000.0) for i in range(4)]
    torch.testing.assert_close(box_features(boxes, 6), torch.cat(expected, dim=-1))


def test_positions_run_over_the_valid_cells_only():
    encode = PositionEmbeddingSine(num_pos_feats=8, normalize=True, offset=-0.5)
    mask = torch.ones(1, 6, 9, dtype=torch.bool)
    mask[:, :4, :5] = False
    alone = encode(torch.zeros(1, 4, 5, dtype=torch.bool))
    torch.testing.assert_close(encode(mask)[:, :, :4, :5], alone)


def test_normalised_positions_are_cell_centres():
    # two rows: centres at 1/4 and 3/4 of 2 pi; the first feature is the sine of the row
    encode = PositionEmbeddingSine(num_pos_feats=2, normalize=True, offset=-0.5)
    rows = encode(torch.zeros(1, 2, 1, dtype=torch.bool))[0, 0, :, 0]
    torch.testing.assert_close(rows, torch.tensor([1.0, -1.0]))


def test_without_normalising_positions_count_from_one():
    rows = PositionEmbeddingSine(num_pos_feats=2)(torch.zeros(1, 3, 1, dtype=torch.bool))[
        0, 0, :, 0
    ]
    torch.testing.assert_close(rows, torch.tensor([1.0, 2.0, 3.0]).sin())


def test_odd_feature_counts_are_refused():
    with pytest.raises(ValueError, match="even"):
        PositionEmbeddingSine(num_pos_feats=3)
