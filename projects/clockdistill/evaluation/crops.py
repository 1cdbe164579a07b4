"""How many of the objects a crop classifier names right."""

from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import Tensor


class CropAccuracy(DatasetEvaluator):
    """The share of objects whose crops get their class, in percent."""

    def reset(self) -> None:
        """Forget all images."""
        self._right = self._objects = 0

    def process(self, inputs: list[dict[str, Any]], outputs: list[Tensor]) -> None:
        """Take in what each image's objects were taken for.

        Args:
            inputs: as the data mapper makes them, with "instances".
            outputs: for each image its objects' predicted classes (N,).
        """
        for entry, classes in zip(inputs, outputs, strict=True):
            labels = entry["instances"].gt_classes
            self._right += int((classes.cpu() == labels.cpu()).sum())
            self._objects += len(labels)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Return {"crops": {"accuracy": percent}}, NaN without objects; on other processes {}."""
        counts = comm.gather((self._right, self._objects))
        if not comm.is_main_process():
            return {}
        right, objects = torch.tensor(counts).sum(dim=0).tolist()
        return {"crops": {"accuracy": 100 * right / objects if objects else float("nan")}}
