"""Measures a pair, and what came out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.pair import Pair
from benchmarks.scale import Scale
from benchmarks.timing import take_turns

# Peaks of memory hardly vary, and each is taken in a process of its own.
MEMORY_ROUNDS = 3


@dataclass(frozen=True)
class Spread:
    """Median and quartiles, interpolated between the rounds."""

    lower: float
    median: float
    upper: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(*np.quantile(values, (0.25, 0.5, 0.75)).tolist())

    def as_json(self) -> dict[str, float]:
        return {"median": self.median, "lower_quartile": self.lower, "upper_quartile": self.upper}


@dataclass(frozen=True)
class Outcome:
    """What was measured of a pair.

    Attributes:
        pair: which.
        ours: part of our side -> what it took, round by round, in the pair's unit.
        theirs: the same of the other side.
        facts: what the check before the measurement found.
    """

    pair: Pair
    ours: Mapping[str, Sequence[float]]
    theirs: Mapping[str, Sequence[float]]
    facts: Mapping[str, Any]

    @property
    def our_sums(self) -> list[float]:
        """All of our side, round by round."""
        return [sum(parts) for parts in zip(*self.ours.values(), strict=True)]

    @property
    def their_sums(self) -> list[float]:
        """All of the other side, round by round."""
        return [sum(parts) for parts in zip(*self.theirs.values(), strict=True)]

    @property
    def ratios(self) -> list[float]:
        """Of each round by itself, so that a slow spell of the machine cancels out."""
        both = zip(self.our_sums, self.their_sums, strict=True)
        return [self.pair.target.ratio(*sums) for sums in both]

    @property
    def met(self) -> bool:
        """Whether the median of the ratios reaches the target."""
        return self.pair.target.met(Spread.of(self.ratios).median)

    def as_json(self) -> dict[str, Any]:
        """Plain values, everything that was measured included."""
        return {
            "name": self.pair.name,
            "what": self.pair.what,
            "reference": self.pair.reference,
            "unit": self.pair.unit,
            "ours": _side(self.ours, self.our_sums),
            "theirs": _side(self.theirs, self.their_sums),
            "ratio": {**Spread.of(self.ratios).as_json(), "rounds": self.ratios},
            "target": str(self.pair.target),
            "met": self.met,
            "facts": dict(self.facts),
        }


def _side(parts: Mapping[str, Sequence[float]], sums: Sequence[float]) -> dict[str, Any]:
    return {
        **Spread.of(sums).as_json(),
        "parts": {
            name: {**Spread.of(values).as_json(), "rounds": list(values)}
            for name, values in parts.items()
        },
    }


def measure(pair: Pair, scale: Scale, warmup: int, rounds: int) -> Outcome:
    """Builds both sides, compares what they compute, and only then takes turns.

    Args:
        pair: what to measure.
        scale: how large.
        warmup: rounds that do not count; none for memory.
        rounds: rounds that count; at most `MEMORY_ROUNDS` for memory.

    Raises:
        Disagreement: if the two sides do not compute the same.
    """
    sides = pair.build(scale)
    facts = sides.check()
    if pair.unit == "bytes":
        warmup, rounds = 0, min(rounds, MEMORY_ROUNDS)
    measures = {("ours", name): part for name, part in sides.ours.items()}
    measures |= {("theirs", name): part for name, part in sides.theirs.items()}
    taken = take_turns(measures, warmup, rounds)
    ours, theirs = (
        {name: values for (side, name), values in taken.items() if side == wanted}
        for wanted in ("ours", "theirs")
    )
    return Outcome(pair, ours, theirs, facts)
