"""What detectors predict and what the criterion reads."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Predictions:
    """Class logits and boxes of E stages (decoder layers, first to last) for Q queries.

    Attributes:
        logits: (E, B, Q, K) before sigmoid.
        boxes: (E, B, Q, 4) cxcywh in [0, 1] of the unpadded image.
    """

    logits: Tensor
    boxes: Tensor

    def queries(self, selection: slice) -> "Predictions":
        """The same stages for some of the queries."""
        return Predictions(self.logits[:, :, selection], self.boxes[:, :, selection])

    def split(self, sizes: Sequence[int]) -> tuple["Predictions", ...]:
        """The same stages for so many queries after so many, in order."""
        parts = zip(self.logits.split(sizes, dim=2), self.boxes.split(sizes, dim=2), strict=True)
        return tuple(Predictions(logits, boxes) for logits, boxes in parts)

    def stages(self, selection: slice) -> "Predictions":
        """Some of the stages for the same queries."""
        return Predictions(self.logits[selection], self.boxes[selection])

    def repeated(self, stages: int) -> "Predictions":
        """A single stage, seen as that many."""
        return Predictions(
            self.logits.expand(stages, -1, -1, -1), self.boxes.expand(stages, -1, -1, -1)
        )
