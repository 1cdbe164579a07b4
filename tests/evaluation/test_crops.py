"""The share of objects named right."""

import math
from types import SimpleNamespace

import torch

from projects.clockdistill.evaluation.crops import CropAccuracy


def _entry(*labels: int) -> dict:
    return {"instances": SimpleNamespace(gt_classes=torch.tensor(labels, dtype=torch.int64))}


def test_accuracy_counts_objects_not_images() -> None:
    evaluator = CropAccuracy()
    evaluator.reset()
    evaluator.process([_entry(0, 1, 2), _entry()], [torch.tensor([0, 1, 7]), torch.tensor([])])
    evaluator.process([_entry(3)], [torch.tensor([3])])
    assert evaluator.evaluate() == {"crops": {"accuracy": 75.0}}
    evaluator.reset()
    evaluator.process([_entry(3)], [torch.tensor([2])])
    assert evaluator.evaluate() == {"crops": {"accuracy": 0.0}}


def test_without_objects_there_is_no_figure() -> None:
    evaluator = CropAccuracy()
    evaluator.reset()
    evaluator.process([_entry()], [torch.tensor([])])
    assert math.isnan(evaluator.evaluate()["crops"]["accuracy"])
