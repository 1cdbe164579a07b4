"""Ratios, targets, the check before the measurement, time, and peak memory."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks import pair as pair_module
from benchmarks.pair import QUICK, Disagreement, Pair, Scale, Work, peak_bytes, seconds
from benchmarks.report import environment, show, table

KEPT, TEMPORARY = 60_000_000, 150_000_000  # bytes, far above what else a process allocates


def example(bound: Any, factor: float, ours: Any, theirs: Any, check: Any = lambda _: {}) -> Pair:
    return Pair("self", "example", "our work", "other work", bound, factor, ours, theirs, check)


@pytest.fixture
def measure(monkeypatch):
    """Measures a pair whose parts take what they are given, round by round."""
    monkeypatch.setattr(pair_module, "seconds", lambda values, scale: iter(values).__next__)

    def run(bound: Any, factor: float, ours: list[float], *theirs: list[float]) -> dict[str, Any]:
        found = example(bound, factor, ours, theirs, lambda scale: {"checked": 3})
        return found.measure(QUICK, rounds=len(ours))

    return run


def test_a_target_has_a_direction(measure):
    assert measure(">=", 3, [2], [6])["met"] and not measure(">=", 3.1, [2], [6])["met"]
    assert measure("<=", 1.5, [6], [4])["met"] and not measure("<=", 1.4, [6], [4])["met"]
    assert measure("<=", 1 / 3, [6], [4])["target"] == "<= 0.333x"


def test_ratios_are_taken_round_by_round(measure):
    # the second round was twice as slow for both; the ratio of the medians would be 5 / 2
    assert measure(">=", 2, [1, 4, 2], [3, 8, 5])["ratio"]["rounds"] == [3, 2, 2.5]


def test_sides_take_turns(monkeypatch):
    monkeypatch.setattr(pair_module, "seconds", lambda name, scale: lambda: order.append(name) or 1)
    order: list[str] = []
    example(">=", 1, "a", ["b", "c"]).measure(QUICK, rounds=2)
    assert order == ["a", "b", "c", "a", "b", "c"]


def test_an_entry_of_the_json_file(measure):
    measured = json.loads(json.dumps(measure("<=", 1.5, [6, 6], [1, 2], [3, 4])))
    assert measured["theirs"]["rounds"] == [4, 6]  # the sums of both parts
    assert measured["ratio"]["rounds"] == [1.5, 1]
    assert (measured["name"], measured["facts"]) == ("example", {"checked": 3})


def test_table(measure):
    met, missed = measure("<=", 1.5, [6, 6], [1, 2], [3, 4]), measure(">=", 2, [0.5], [0.25])
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in table([met, missed]).split("\n")
    ]
    assert rows[2] == [
        "our work", "other work", "6.00 s", "5.00 s", "1.25x (1.12 to 1.38)", "<= 1.5x", "yes",
    ]  # fmt: skip
    assert rows[3][2:] == ["500.0 ms", "250.0 ms", "0.5x (0.5 to 0.5)", ">= 2x", "NO"]
    assert show(2_500_000, "bytes") == "2.5 MB"


def test_the_environment_names_the_opponents_version():
    assert environment("pytest")["versions"]["pytest"] == pytest.__version__


def test_a_pair_whose_sides_disagree_is_not_built():
    def never(scale: Scale) -> Work:
        raise AssertionError("was built")

    def check(scale: Scale) -> dict:
        raise Disagreement("they differ")

    with pytest.raises(Disagreement, match="they differ"):
        example(">=", 1, never, [never], check).measure(QUICK, rounds=1)


def test_time_is_that_of_one_call():
    assert seconds(lambda scale: lambda: time.sleep(0.1), QUICK)() == pytest.approx(0.1, rel=0.2)


def build(scale: Scale) -> Work:
    """Keeps `KEPT` and needs `TEMPORARY` in each run, but nothing at the tiny scale."""
    if scale == QUICK:
        return lambda: None
    kept = torch.ones(KEPT // 4)

    def run() -> None:
        assert len(kept) and torch.ones(TEMPORARY // 4).sum() > 0

    return run


def test_peak_memory_is_that_of_the_runs():
    peak = peak_bytes(build, replace(QUICK, height=QUICK.height + 1))()
    assert peak == pytest.approx(TEMPORARY, abs=10_000_000)
