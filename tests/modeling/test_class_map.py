"""The teacher's classes mapped to the student's."""

import pytest
import torch
from detectron2.structures import Boxes, Instances

from projects.clockdistill.modeling.class_map import ClassMap
from projects.clockdistill.modeling.detectors.predictions import Predictions


def test_the_same_classes_pass_untouched():
    predictions = Predictions(torch.randn(1, 1, 2, 3), torch.rand(1, 1, 2, 4))
    assert ClassMap(3, 3, None).predictions(predictions) is predictions


def test_logits_are_picked_for_each_of_the_students_classes():
    predictions = Predictions(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), torch.rand(1, 4))
    mapped = ClassMap(3, 4, [3, 1, 1]).predictions(predictions)
    assert mapped.logits.tolist() == [[3.0, 1.0, 1.0]]
    assert mapped.boxes is predictions.boxes


def test_a_detection_counts_for_each_class_that_its_own_stands_for_and_else_for_none():
    found = Instances(
        (10, 10),
        pred_boxes=Boxes(torch.tensor([[0.0, 0, 1, 1], [1, 1, 2, 2], [2, 2, 3, 3]])),
        scores=torch.tensor([0.9, 0.8, 0.7]),
        pred_classes=torch.tensor([1, 0, 3]),
    )
    mapped = ClassMap(3, 4, [3, 1, 1]).detections(found)
    seen = sorted(zip(mapped.pred_classes.tolist(), mapped.scores.tolist(), strict=True))
    assert [name for name, _ in seen] == [0, 1, 2]
    torch.testing.assert_close(torch.tensor([s for _, s in seen]), torch.tensor([0.7, 0.9, 0.9]))


@pytest.mark.parametrize("teacher_class", [[0, 1], [0, 1, 4], [0, 1, -1]])
def test_a_map_that_does_not_fit_is_refused(teacher_class):
    with pytest.raises(ValueError, match="one class from 0 to 3"):
        ClassMap(3, 4, teacher_class)


def test_other_classes_need_a_map():
    with pytest.raises(ValueError, match="Fix: give both the same classes, or set model.class_map"):
        ClassMap(3, 4, None)
