"""All pairs, each a small declared object."""

from benchmarks.pair import Against, Pair
from benchmarks.pairs import (
    attention,
    data_loading,
    distillation,
    evaluation,
    floor,
    inference,
    training,
    transformers,
)

PAIRS: tuple[Pair, ...] = (
    *attention.PAIRS,
    *inference.PAIRS,
    *training.PAIRS,
    *transformers.PAIRS,
    *floor.PAIRS,
    *distillation.PAIRS,
    *evaluation.PAIRS,
    *data_loading.PAIRS,
)


def pairs_against(against: Against, only: list[str]) -> list[Pair]:
    """The pairs of one opponent.

    Args:
        against: whose.
        only: names to pick; empty picks all.

    Raises:
        ValueError: if a name belongs to none of them.
    """
    found = {pair.name: pair for pair in PAIRS if pair.against == against}
    unknown = [name for name in only if name not in found]
    if unknown:
        raise ValueError(f"--only {', '.join(unknown)}: against {against} there are {list(found)}")
    return [pair for name, pair in found.items() if not only or name in only]
