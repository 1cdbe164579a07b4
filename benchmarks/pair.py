"""A benchmark: two sides that do the same work, and how far apart they should be."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.measuring import Measure, take_turns
from benchmarks.scale import Scale
from projects.clockdistill.analysis.spread import Spread

# Peaks of memory hardly vary, and each needs a new process.
MEMORY_ROUNDS = 3


class Disagreement(ValueError):
    """The two sides do not compute the same, so their times cannot be compared."""


@dataclass(frozen=True)
class Target:
    """The wanted ratio.

    Attributes:
        factor: the bound, itself included.
        at_least: True: the other side should take at least `factor` times as much as ours.
            False: ours should take at most `factor` times as much as the other.
    """

    factor: float
    at_least: bool

    def ratio(self, ours: float, theirs: float) -> float:
        return theirs / ours if self.at_least else ours / theirs

    def met(self, ratio: float) -> bool:
        return ratio >= self.factor if self.at_least else ratio <= self.factor

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.factor:.3g}x"


@dataclass(frozen=True)
class Sides:
    """Both sides of a pair, ready to run.

    Attributes:
        ours: parts of our side by name; what they take is summed.
        theirs: parts of the other side.
        check: runs both sides once, compares the results and returns what a reader should know.
            Raises `Disagreement` if they differ.
    """

    ours: Mapping[str, Measure]
    theirs: Mapping[str, Measure]
    check: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Pair:
    """One benchmark."""

    name: str  # for the command line and the JSON file
    what: str  # our side, in words
    against: str  # a key of `opponents.OPPONENTS`
    reference: str  # the other side, in words
    target: Target
    build: Callable[[Scale], Sides]
    unit: Literal["s", "bytes"] = "s"  # of what is measured

    def measure(self, scale: Scale, rounds: int) -> dict[str, Any]:
        """Builds both sides, compares what they compute, and only then takes turns.

        Args:
            scale: sizes.
            rounds: their number; at most `MEMORY_ROUNDS` for memory.

        Returns:
            The pair's entry in the JSON file, which holds every round of every part.

        Raises:
            Disagreement: if the two sides do not compute the same.
        """
        sides = self.build(scale)
        facts = dict(sides.check())
        if self.unit == "bytes":
            rounds = min(rounds, MEMORY_ROUNDS)
        measures = {("ours", name): part for name, part in sides.ours.items()}
        measures |= {("theirs", name): part for name, part in sides.theirs.items()}
        taken = take_turns(measures, rounds)
        ours = {name: taken["ours", name] for name in sides.ours}
        theirs = {name: taken["theirs", name] for name in sides.theirs}
        # of each round by itself, so that a slow spell of the machine cancels out
        both = zip(_sums(ours), _sums(theirs), strict=True)
        ratios = [self.target.ratio(*round_sums) for round_sums in both]
        return {
            "name": self.name,
            "what": self.what,
            "reference": self.reference,
            "unit": self.unit,
            "ours": _side(ours),
            "theirs": _side(theirs),
            "ratio": _spread(ratios),
            "target": str(self.target),
            "met": self.target.met(Spread.of(ratios).median),
            "facts": facts,
        }


def _sums(parts: Mapping[str, Sequence[float]]) -> list[float]:
    return [sum(values) for values in zip(*parts.values(), strict=True)]


def _side(parts: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    by_name = {name: _spread(values) for name, values in parts.items()}
    return {**asdict(Spread.of(_sums(parts))), "parts": by_name}


def _spread(rounds: Sequence[float]) -> dict[str, Any]:
    return {**asdict(Spread.of(rounds)), "rounds": list(rounds)}
