"""The losses of many batches in a few figures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from projects.clockdistill.calibration.measure import DETECTION, MEMORY_PARTS, Sample


@dataclass(frozen=True)
class Spread:
    """Median and quartiles over the batches."""

    lower_quartile: float
    median: float
    upper_quartile: float

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Spread | None":
        """None if there is nothing to measure."""
        if None in values:
            return None
        return cls(*np.quantile(values, (0.25, 0.5, 0.75)).tolist())


@dataclass(frozen=True)
class LossScale:
    """How large one loss is.

    Attributes:
        name: "detection", "loss_distill_*" or a part of one.
        value: weighted, as it enters the total loss.
        relative: its median over the detection loss's.
        at_memory: gradient norm at the student's encoder output; None: the loss does not come
            from there.
        at_neck: gradient norm at the encoder's input.
        relative_at_neck: its median over that of the detection loss's gradient.
    """

    name: str
    value: Spread
    relative: float
    at_memory: Spread | None
    at_neck: Spread
    relative_at_neck: float

    @property
    def is_distillation(self) -> bool:
        """Whether it is a distillation loss of its own, not a part of one."""
        return self.name != DETECTION and self.name not in MEMORY_PARTS

    def as_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


def summarize(samples: Mapping[str, Sequence[Sample]]) -> list[LossScale]:
    """What `measure` returned, loss by loss."""
    detection = Spread.of([sample.value for sample in samples[DETECTION]])
    pull = Spread.of([sample.at_neck for sample in samples[DETECTION]])
    scales = []
    for name, batches in samples.items():
        value = Spread.of([sample.value for sample in batches])
        at_neck = Spread.of([sample.at_neck for sample in batches])
        scales.append(
            LossScale(
                name=name,
                value=value,
                relative=value.median / detection.median,
                at_memory=Spread.of([sample.at_memory for sample in batches]),
                at_neck=at_neck,
                relative_at_neck=at_neck.median / pull.median,
            )
        )
    return scales
