"""Box arithmetic: the logit's ends and the generalised IoU."""

import math

import torch
from torchvision.ops import generalized_box_iou

from projects.clockdistill.modeling.detectors.layers.boxes import (
    boxes_around,
    generalized_iou,
    inverse_sigmoid,
)


def test_inverse_sigmoid_inverts_inside_and_saturates_at_the_ends():
    inside = torch.tensor([0.002, 0.3, 0.998])
    torch.testing.assert_close(inverse_sigmoid(inside).sigmoid(), inside)
    # log(1e-3 / 1) on both sides, for 0 and for anything beyond
    ends = inverse_sigmoid(torch.tensor([-1.0, 0.0, 1.0, 2.0]))
    limit = math.log(1000)
    torch.testing.assert_close(ends, torch.tensor([-limit, -limit, limit, limit]))


def test_offsets_move_boxes_but_are_the_size_around_points():
    # sigmoid(log 3) = 3/4, sigmoid(-log 3) = 1/4
    offsets = torch.tensor([0.0, math.log(3), -math.log(3), math.log(3)])
    around_point = boxes_around(torch.tensor([0.3, 0.5]), offsets)
    torch.testing.assert_close(around_point, torch.tensor([0.3, 0.75, 0.25, 0.75]))
    # 1/4 has the logit -log 3, 1/2 has 0
    around_box = boxes_around(torch.tensor([0.3, 0.5, 0.5, 0.25]), offsets)
    torch.testing.assert_close(around_box, torch.tensor([0.3, 0.75, 0.25, 0.5]))


def test_generalized_iou_of_hand_made_pairs():
    first = torch.tensor([0.0, 0.0, 2.0, 2.0])
    second = torch.tensor(
        [
            [0.0, 0.0, 2.0, 2.0],  # the same: 1
            [1.0, 0.0, 3.0, 2.0],  # overlap 2, union 6, hull 6: 1/3
            [3.0, 0.0, 4.0, 2.0],  # overlap 0, union 6, hull 8: 0 - 2/8
        ]
    )
    expected = torch.tensor([1.0, 1 / 3, -0.25])
    torch.testing.assert_close(generalized_iou(first, second), expected, atol=1e-5, rtol=0)


def test_generalized_iou_of_all_pairs_is_torchvisions():
    corners = torch.rand(2, 6, 2, 2).sort(dim=2).values.flatten(2) + torch.tensor([0, 0, 0.1, 0.1])
    pairs = generalized_iou(corners[0][:, None], corners[1])
    torch.testing.assert_close(pairs, generalized_box_iou(*corners), atol=1e-3, rtol=0)


def test_empty_boxes_give_finite_values_and_gradients():
    point = torch.tensor([[0.5, 0.5, 0.5, 0.5]], requires_grad=True)
    value = generalized_iou(point, point.detach())
    value.sum().backward()
    assert value.isfinite().all() and point.grad.isfinite().all()
