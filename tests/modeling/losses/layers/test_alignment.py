"""Alignment of student and teacher features; the feature losses' tests hold the rest."""

import torch

from projects.clockdistill.modeling.losses.layers.alignment import FeatureAlignment
from tests.modeling.losses.feature_maps import random_features


def test_a_map_of_padding_alone_is_empty():
    student, teacher, masks = random_features(3, 4)
    masks = [torch.ones_like(mask) for mask in masks]
    for pair in FeatureAlignment(3, 4, num_levels=2)(student, teacher, masks):
        assert not pair.student.any() and not pair.teacher.any()
        assert pair.num_valid.tolist() == [1, 1]  # a divisor
