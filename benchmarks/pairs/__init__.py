"""All pairs, each a small declared object."""

from benchmarks.pair import Pair
from benchmarks.pairs import (
    attention,
    data_loading,
    detectors,
    distillation,
    evaluation,
    exported,
    floor,
)
from projects.clockdistill.errors import UserError

PAIRS: tuple[Pair, ...] = (
    *attention.PAIRS,
    *detectors.PAIRS,
    floor.PAIR,
    *distillation.PAIRS,
    evaluation.PAIR,
    data_loading.PAIR,
    *exported.PAIRS,
)


def pairs_against(against: str, only: list[str]) -> list[Pair]:
    """Returns the pairs of one opponent.

    Args:
        against: the opponent.
        only: names to pick; empty picks all.

    Raises:
        UserError: if there is no pair of a name.
    """
    found = {pair.name: pair for pair in PAIRS if pair.against == against}
    unknown = [name for name in only if name not in found]
    if unknown:
        raise UserError(
            f"--only {', '.join(unknown)}: no such pair against {against}. "
            f"Fix: name one of {', '.join(found)}"
        )
    return [pair for name, pair in found.items() if not only or name in only]
