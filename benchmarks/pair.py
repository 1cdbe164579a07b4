"""What a benchmark is: two sides that do the same work, and how far apart they should be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.scale import Scale

Against = Literal["self", "detrex", "transformers"]
OPPONENTS: tuple[Against, ...] = ("self", "detrex", "transformers")
Measure = Callable[[], float]  # does the work once; what it took, in the pair's unit


class Disagreement(ValueError):
    """The two sides do not compute the same, so their times cannot be compared."""


@dataclass(frozen=True)
class Target:
    """Which ratio is wanted.

    Attributes:
        factor: the bound, itself included.
        at_least: True: the other side should take at least `factor` times as much as ours.
            False: ours should take at most `factor` times as much as the other.
    """

    factor: float
    at_least: bool

    def ratio(self, ours: float, theirs: float) -> float:
        """Theirs by ours where much is wanted, ours by theirs where little is."""
        return theirs / ours if self.at_least else ours / theirs

    def met(self, ratio: float) -> bool:
        return ratio >= self.factor if self.at_least else ratio <= self.factor

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.factor:.3g}x"


@dataclass(frozen=True)
class Sides:
    """What a pair's builder returns.

    Attributes:
        ours: parts of our side by name; what they take is summed.
        theirs: the same of the other side.
        check: runs both sides once and compares what they return.

            Returns:
                What was found and what a reader should know, such as numbers of parameters.

            Raises:
                Disagreement: naming what differs.
    """

    ours: Mapping[str, Measure]
    theirs: Mapping[str, Measure]
    check: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Pair:
    """One benchmark.

    Attributes:
        name: for the command line and the JSON file.
        what: our side, in words.
        against: whose code the other side is.
        reference: the other side, in words.
        target: the wanted ratio.
        build: makes both sides.
        unit: of what is measured: seconds or bytes.
    """

    name: str
    what: str
    against: Against
    reference: str
    target: Target
    build: Callable[[Scale], Sides]
    unit: Literal["s", "bytes"] = "s"
