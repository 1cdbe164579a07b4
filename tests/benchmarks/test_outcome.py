"""Ratios, targets and the check before the measurement."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.outcome import MEMORY_ROUNDS, Outcome, Spread, measure
from benchmarks.pair import Disagreement, Pair, Sides, Target
from benchmarks.report import as_json, details, environment, shown, table
from benchmarks.scale import QUICK, Scale

FAST = Target(2, at_least=True)
SMALL = Target(1.5, at_least=False)


def pair(target: Target, build: Callable[[Scale], Sides] | None = None, unit: Any = "s") -> Pair:
    return Pair("fake", "our work", "self", "other work", target, build, unit)


def outcome(target: Target, ours: list[float], *theirs: list[float]) -> Outcome:
    parts = {f"part {number}": values for number, values in enumerate(theirs)}
    return Outcome(pair(target), {"work": ours}, parts, {"checked": 3})


def test_a_target_has_a_direction():
    assert (FAST.ratio(2, 6), SMALL.ratio(2, 6)) == (3, 2 / 6)
    assert FAST.met(2) and FAST.met(3) and not FAST.met(1.99)
    assert SMALL.met(1.5) and SMALL.met(0.5) and not SMALL.met(1.51)
    assert (str(FAST), str(Target(1 / 3, at_least=False))) == (">= 2x", "<= 0.333x")


def test_ratios_are_taken_round_by_round():
    # the second round was twice as slow for both; medians alone would give 5 / 2 of other rounds
    measured = outcome(FAST, [1, 4, 2], [3, 8, 5])
    assert measured.ratios == [3, 2, 2.5]
    assert Spread.of(measured.ratios) == Spread(2.25, 2.5, 2.75)
    assert measured.met and not outcome(FAST, [1, 1, 1], [3, 1, 1]).met


def test_parts_of_a_side_are_summed():
    measured = outcome(SMALL, [6, 6], [1, 2], [3, 4])
    assert measured.their_sums == [4, 6]
    assert measured.ratios == [1.5, 1] and measured.met


def test_json_holds_every_round_and_part():
    measured = outcome(SMALL, [6, 6], [1, 2], [3, 4])
    found = environment()
    content = json.loads(json.dumps(as_json("self", {"rounds": 2}, found, [measured], {"x": "y"})))
    assert list(content) == ["against", "settings", "environment", "pairs", "refused"]
    assert content["environment"].keys() == {
        "machine",
        "threads",
        "commit",
        "load average",
        "versions",
    }
    (row,) = content["pairs"]
    assert row["theirs"]["parts"]["part 1"]["rounds"] == [3, 4]
    assert row["theirs"]["median"] == 5 and row["ours"]["median"] == 6
    assert row["ratio"] == {
        "median": 1.25,
        "lower_quartile": 1.125,
        "upper_quartile": 1.375,
        "rounds": [1.5, 1],
    }
    assert (row["target"], row["met"], row["unit"]) == ("<= 1.5x", True, "s")


def test_table_and_details():
    met, missed = outcome(SMALL, [6, 6], [1, 2], [3, 4]), outcome(FAST, [0.5], [0.25])
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in table([met, missed]).split("\n")
    ]
    assert rows[2] == [
        "our work", "other work", "6.00 s", "5.00 s", "1.25x (1.12 to 1.38)", "<= 1.5x", "yes",
    ]  # fmt: skip
    assert rows[3][2:] == ["500.0 ms", "250.0 ms", "0.5x (0.5 to 0.5)", ">= 2x", "NO"]
    assert details(met) == "- theirs: part 0 1.50 s, part 1 3.50 s\n- checked: checked 3"
    assert shown(2_500_000, "bytes") == "2.5 MB"


def test_a_pair_whose_sides_disagree_is_not_timed():
    def build(scale: Scale) -> Sides:
        def never() -> float:
            raise AssertionError("was timed")

        def check() -> dict:
            raise Disagreement("they differ")

        return Sides({"work": never}, {"work": never}, check)

    with pytest.raises(Disagreement, match="they differ"):
        measure(pair(FAST, build), QUICK, warmup=1, rounds=1)


@pytest.mark.parametrize(("unit", "calls"), [("s", 2 + 5), ("bytes", MEMORY_ROUNDS)])
def test_both_sides_are_measured_by_turns(unit, calls):
    order = []

    def build(scale: Scale) -> Sides:
        def part(name: str, value: float):
            return lambda: order.append(name) or value

        theirs = {"b": part("b", 3.0), "c": part("c", 4.0)}
        return Sides({"a": part("a", 2.0)}, theirs, lambda: {"checked": True})

    measured = measure(pair(FAST, build, unit), QUICK, warmup=2, rounds=5)
    assert order == ["a", "b", "c"] * calls
    assert set(measured.ratios) == {3.5} and measured.facts == {"checked": True}
