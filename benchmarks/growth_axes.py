"""What a training step is measured against, one quantity at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from benchmarks.models import built, tree
from benchmarks.outcome import Spread
from benchmarks.pairs.attention import level_shapes
from benchmarks.part_clock import PARTS, STEP, step_by_parts
from benchmarks.scale import FULL, QUICK, Scale
from benchmarks.scenes import drawn_batch
from benchmarks.timing import take_turns

MATCHING_BITES = 0.1  # of the step


@dataclass(frozen=True)
class Setting:
    """One training step of DINO R18.

    Attributes:
        scale: image size, images, objects.
        queries: matching queries.
    """

    scale: Scale
    queries: int

    @property
    def tokens(self) -> int:
        """Of the encoder, per image."""
        return sum(height * width for height, width in level_shapes(self.scale))


@dataclass(frozen=True)
class Axis:
    """One quantity that grows while the others stay.

    Attributes:
        name: of the quantity.
        values: growing.
        settings: one a value.
    """

    name: str
    values: Sequence[int]
    settings: Sequence[Setting]


@dataclass(frozen=True)
class Growth:
    """How the parts of a step grow along an axis.

    Attributes:
        axis: which.
        medians: part (`PARTS` and `STEP`) -> seconds, one a value of the axis.
    """

    axis: Axis
    medians: Mapping[str, Sequence[float]]

    @property
    def upper(self) -> slice:
        """The upper half of the values, two at least."""
        count = len(self.axis.values)
        return slice(min(count // 2, count - 2), None)

    def exponent(self, part: str) -> float:
        """b of time = a * value ** b, fitted to the upper half of the values.

        Below it is what does not grow at all that decides.
        """
        return exponent(self.axis.values[self.upper], self.medians[part][self.upper])

    def share(self, part: str) -> list[float]:
        """Of the step, one a value."""
        pairs = zip(self.medians[part], self.medians[STEP], strict=True)
        return [seconds / whole for seconds, whole in pairs]

    def matching(self) -> str:
        """From where on matching takes a part of the step that one notices."""
        shares = self.share("matching")
        biting = [
            value
            for value, share in zip(self.axis.values, shares, strict=True)
            if share >= MATCHING_BITES
        ]
        if biting:
            return f"matching bites from {biting[0]} {self.axis.name} on: {max(shares):.0%} at most"
        return (
            f"matching bites nowhere up to {self.axis.values[-1]} {self.axis.name}: at most "
            f"{max(shares):.1%} of the step"
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "axis": self.axis.name,
            "values": list(self.axis.values),
            "parts": {
                part: {"seconds": list(seconds), "exponent": self.exponent(part)}
                for part, seconds in self.medians.items()
            },
            "matching": self.matching(),
        }


def exponent(values: Sequence[float], seconds: Sequence[float]) -> float:
    """Slope of the line through the logarithms."""
    return float(np.polyfit(np.log(values), np.log(seconds), 1)[0])


def axes(quick: bool) -> list[Axis]:
    """Around a quarter of the targets' image, so that eight of them fit into memory.

    Args:
        quick: tiny sizes and few values.
    """
    if quick:
        base = Setting(replace(QUICK, batch=1), queries=12)
        areas, queries, objects, images = (1, 4), (6, 12), (1, 4), (1, 2)
    else:
        height, width = FULL.height // 2, FULL.width // 2
        base = Setting(replace(FULL, height=height, width=width, batch=1), queries=900)
        areas = (0.5, 1, 2, 4, 6, 8)  # from 1,431 tokens, of which 900 become queries
        queries, objects = (150, 300, 600, 1200, 1800, 2400), (2, 8, 32, 128, 256, 512)
        images = (1, 2, 3, 4, 6, 8)
    sized = [_resized(base, area) for area in areas]
    return [
        Axis("tokens", [setting.tokens for setting in sized], sized),
        Axis("queries", queries, [replace(base, queries=n) for n in queries]),
        Axis("objects per image", objects, [_changed(base, objects=n) for n in objects]),
        Axis("images", images, [_changed(base, batch=n) for n in images]),
    ]


def _changed(setting: Setting, **sizes: int) -> Setting:
    return replace(setting, scale=replace(setting.scale, **sizes))


def _resized(setting: Setting, area: float) -> Setting:
    height, width = (
        round(size * area**0.5) for size in (setting.scale.height, setting.scale.width)
    )
    return _changed(setting, height=height, width=width)


def measure_growth(axis: Axis, warmup: int, rounds: int) -> Growth:
    """Takes steps of all the axis's settings by turns.

    Args:
        axis: what grows.
        warmup: rounds that do not count.
        rounds: rounds that count.
    """
    steps = {
        str(value): step_by_parts(_detector(setting), _batch(setting))
        for value, setting in zip(axis.values, axis.settings, strict=True)
    }
    taken = take_turns(steps, warmup, rounds)
    medians = {
        part: [Spread.of([parts[part] for parts in steps]).median for steps in taken.values()]
        for part in (*PARTS, STEP)
    }
    return Growth(axis, medians)


def _detector(setting: Setting) -> nn.Module:
    model = tree("dino", 18, setting.scale)
    model.num_queries = setting.queries
    return built(model)


def _batch(setting: Setting) -> list[dict[str, Any]]:
    scale = setting.scale
    return drawn_batch(scale.batch, scale.height, scale.width, scale.objects, num_classes=80)
