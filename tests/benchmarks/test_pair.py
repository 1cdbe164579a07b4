"""Ratios, targets and the check before the measurement."""

import json
from typing import Any

import pytest

from benchmarks.pair import MEMORY_ROUNDS, Disagreement, Pair, Sides, Target
from benchmarks.report import describe, environment, show, table
from benchmarks.scale import QUICK

FAST = Target(2, at_least=True)
SMALL = Target(1.5, at_least=False)


def measure(
    target: Target, ours: list[float], *theirs: list[float], unit: Any = "s"
) -> dict[str, Any]:
    """Measures a pair whose parts take what they are given, round by round."""

    def sides(_: Any) -> Sides:
        parts = {f"part {n}": iter(values).__next__ for n, values in enumerate(theirs)}
        return Sides({"work": iter(ours).__next__}, parts, lambda: {"checked": 3})

    pair = Pair("example", "our work", "self", "other work", target, sides, unit)
    return pair.measure(QUICK, rounds=len(ours))


def test_a_target_has_a_direction():
    assert (FAST.ratio(2, 6), SMALL.ratio(2, 6)) == (3, 2 / 6)
    assert FAST.met(2) and FAST.met(3) and not FAST.met(1.99)
    assert SMALL.met(1.5) and SMALL.met(0.5) and not SMALL.met(1.51)
    assert (str(FAST), str(Target(1 / 3, at_least=False))) == (">= 2x", "<= 0.333x")


def test_ratios_are_taken_round_by_round():
    # the second round was twice as slow for both; the ratio of the medians would be 5 / 2
    measured = measure(FAST, [1, 4, 2], [3, 8, 5])
    assert measured["ratio"]["rounds"] == [3, 2, 2.5]
    assert measured["met"] and not measure(FAST, [1, 1, 1], [3, 1, 1])["met"]


def test_an_entry_of_the_json_file_holds_every_round_and_part():
    measured = json.loads(json.dumps(measure(SMALL, [6, 6], [1, 2], [3, 4])))
    assert measured["theirs"]["parts"]["part 1"]["rounds"] == [3, 4]
    assert measured["theirs"]["median"] == 5 and measured["ours"]["median"] == 6
    assert measured["ratio"] == {
        "median": 1.25,
        "lower_quartile": 1.125,
        "upper_quartile": 1.375,
        "rounds": [1.5, 1],
    }
    assert (measured["target"], measured["met"], measured["unit"]) == ("<= 1.5x", True, "s")
    assert (measured["name"], measured["facts"]) == ("example", {"checked": 3})


def test_table():
    met, missed = measure(SMALL, [6, 6], [1, 2], [3, 4]), measure(FAST, [0.5], [0.25])
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in table([met, missed]).split("\n")
    ]
    assert rows[2] == [
        "our work", "other work", "6.00 s", "5.00 s", "1.25x (1.12 to 1.38)", "<= 1.5x", "yes",
    ]  # fmt: skip
    assert rows[3][2:] == ["500.0 ms", "250.0 ms", "0.5x (0.5 to 0.5)", ">= 2x", "NO"]
    assert show(2_500_000, "bytes") == "2.5 MB"


def test_the_environment_names_machine_and_versions():
    found = environment("pytest")
    assert list(found) == ["machine", "threads", "commit", "load average", "versions"]
    assert f"pytest {pytest.__version__}" in describe(found) and found["machine"] in describe(found)


def test_a_pair_whose_sides_disagree_is_not_timed():
    def sides(_: Any) -> Sides:
        def never() -> float:
            raise AssertionError("was timed")

        def check() -> dict:
            raise Disagreement("they differ")

        return Sides({"work": never}, {"work": never}, check)

    with pytest.raises(Disagreement, match="they differ"):
        Pair("example", "", "self", "", FAST, sides).measure(QUICK, rounds=1)


def test_memory_is_measured_a_few_times_only():
    measured = measure(SMALL, [1] * 9, [1] * 9, unit="bytes")
    assert len(measured["ratio"]["rounds"]) == MEMORY_ROUNDS
