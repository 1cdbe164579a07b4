"""The loop and the clock, by a clock that fake work moves."""

import pytest

from benchmarks import timing
from benchmarks.timing import seconds, take_turns


class Clock:
    """Stands still but for what the work adds."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def work(self, taken: float) -> None:
        self.now += taken


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_measures_take_turns_and_warmup_does_not_count():
    order = []

    def measure(name: str):
        def run() -> int:
            order.append(name)
            return len(order)

        return run

    taken = take_turns({name: measure(name) for name in "AB"}, warmup=1, rounds=2)
    assert order == ["A", "B"] * 3
    assert taken == {"A": [3, 5], "B": [4, 6]}


def test_seconds_of_a_call(clock):
    measure = seconds(lambda: clock.work(3))
    assert [measure(), measure()] == [3, 3]


def test_what_runs_before_does_not_count(clock):
    assert seconds(lambda: clock.work(3), before=lambda: clock.work(100))() == 3


def test_mean_of_several_calls(clock):
    times = iter([1, 2, 6])
    assert seconds(lambda: clock.work(next(times)), calls=3)() == 3  # 9 / 3
