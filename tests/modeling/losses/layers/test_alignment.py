"""Alignment of student and teacher features; the feature losses' tests hold what padding does."""

import torch

from projects.clockdistill.modeling.losses.layers.alignment import FeatureAlignment
from tests.modeling.losses.feature_maps import random_features


def test_pairs_count_their_valid_cells():
    first, second = FeatureAlignment(4, 4, num_levels=2)(*random_features())
    assert first.num_valid.tolist() == [24, 12] and second.num_valid.tolist() == [6, 4]


def test_the_same_widths_pass_unchanged_outside_the_padding():
    student, teacher, masks = random_features()
    alignment = FeatureAlignment(4, 4, num_levels=2)
    assert not list(alignment.parameters())
    for pair, x, t in zip(alignment(student, teacher, masks), student, teacher, strict=True):
        torch.testing.assert_close(pair.student, x * pair.valid)
        torch.testing.assert_close(pair.teacher, t * pair.valid)


def test_a_map_of_padding_alone_is_empty():
    student, teacher, masks = random_features(3, 4)
    masks = [torch.ones_like(mask) for mask in masks]
    for pair in FeatureAlignment(3, 4, num_levels=2)(student, teacher, masks):
        assert not pair.student.any() and not pair.teacher.any()
        assert pair.num_valid.tolist() == [1, 1]  # a divisor
