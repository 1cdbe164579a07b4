"""Median and quartiles of repeated measurements."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Median and quartiles, interpolated between the values."""

    lower_quartile: float
    median: float
    upper_quartile: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(*np.quantile(values, (0.25, 0.5, 0.75)).tolist())
