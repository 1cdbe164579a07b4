"""The losses' scales as a table and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate
from torch import nn

from projects.clockdistill.calibration.advice import current_weights
from projects.clockdistill.calibration.scales import LossScale, Spread

HEADERS = (
    "loss",
    "median (quartiles)",
    "of detection",
    "gradient at memory",
    "gradient at neck",
    "of detection",
)


def table(scales: Sequence[LossScale]) -> str:
    """A Markdown table, one row per loss; "-" where a loss has no gradient."""
    rows = [
        [
            scale.name,
            _cell(scale.value),
            f"{scale.relative:.2%}",
            _cell(scale.at_memory),
            _cell(scale.at_neck),
            f"{scale.relative_at_neck:.2%}",
        ]
        for scale in scales
    ]
    align = ("left", *["right"] * (len(HEADERS) - 1))
    return tabulate(rows, HEADERS, tablefmt="github", colalign=align, disable_numparse=True)


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    lower, median, upper = (
        f"{figure:.3g}" for figure in (spread.lower_quartile, spread.median, spread.upper_quartile)
    )
    return f"{median} ({lower} to {upper})"


def as_json(
    model: nn.Module, scales: Sequence[LossScale], warnings: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One entry per loss: figures, the weights they were measured with, the warning or None."""
    return [
        {
            **scale.as_json(),
            "weights": current_weights(model, scale),
            "warning": warnings.get(scale.name),
        }
        for scale in scales
    ]
