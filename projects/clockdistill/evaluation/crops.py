"""Accuracy of a crop classifier."""

from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import Tensor


class CropAccuracy(DatasetEvaluator):
    """Percentage of objects whose crops are classified correctly."""

    def reset(self) -> None:
        """Removes all images."""
        self._right = self._objects = 0

    def process(self, inputs: list[dict[str, Any]], outputs: list[Tensor]) -> None:
        """Adds one batch.

        Args:
            inputs: as the data mapper returns them, with "instances".
            outputs: per image the predicted classes of its objects (N,).
        """
        for entry, classes in zip(inputs, outputs, strict=True):
            labels = entry["instances"].gt_classes
            self._right += int((classes.cpu() == labels.cpu()).sum())
            self._objects += len(labels)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Returns {"crops": {"accuracy": percent}} (NaN without objects) on the main process."""
        counts = comm.gather((self._right, self._objects))
        if not comm.is_main_process():
            return {}
        right, objects = torch.tensor(counts).sum(dim=0).tolist()
        return {"crops": {"accuracy": 100 * right / objects if objects else float("nan")}}
