"""Parts of a step by a fake clock, exponents, and benchmarks/growth.py at tiny sizes."""

import json

import pytest
from torch import nn

from benchmarks import growth, part_clock
from benchmarks.growth import axes, exponent, summarize, tokens
from benchmarks.part_clock import PARTS, STEP, PartClock


class Clock:
    """A clock that only the modules advance."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Slow(nn.Module):
    """Takes so many seconds, then calls the modules that it holds."""

    def __init__(self, clock: Clock, taken: float, *inner: nn.Module):
        super().__init__()
        self.clock, self.taken, self.inner = clock, taken, nn.ModuleList(inner)

    def forward(self) -> None:
        self.clock.now += self.taken
        for module in self.inner:
            module()


def test_parts_do_not_count_inner_parts(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(part_clock, "time", clock)
    matcher, encoder = Slow(clock, 3), Slow(clock, 10)
    criterion = Slow(clock, 2, matcher, matcher)
    detector = Slow(clock, 1, encoder, criterion)
    parts = PartClock()
    for name, module in (("m", matcher), ("e", encoder), ("c", criterion), ("d", detector)):
        parts.follow(name, module)
    detector()
    assert parts.seconds == {"m": 6, "e": 10, "c": 2, "d": 1}


def test_exponents_are_fitted_to_the_upper_half():
    assert exponent([1, 2, 4, 8], [9, 9, 3 * 4**1.5, 3 * 8**1.5]) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("matching", "sentence"),
    [
        ([0.01, 0.1, 0.4], "matching takes 10% of the step from 64 objects on: at most 40.0%"),
        ([0.01, 0.02, 0.05], "matching takes hardly any time: at most 5.0%"),
    ],
)
def test_where_matching_becomes_noticeable(matching, sentence):
    medians = {STEP: [1.0] * 3, "matching": matching}
    assert summarize("objects", [8, 64, 512], medians)["matching"] == sentence


def test_the_tool(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(growth, "axes", lambda quick: {"tokens": axes(quick)["tokens"]})
    figures, picture = tmp_path / "a/growth.json", tmp_path / "b/growth.png"
    options = ["--quick", "--rounds", "1", "--json", str(figures), "--plot", str(picture)]
    growth.main(options)
    (found,) = json.loads(figures.read_text())["growth"]
    assert found["axis"] == "tokens" and found["values"][0] < found["values"][1]
    assert found["parts"].keys() == {*PARTS, STEP}
    seconds = {name: part["seconds"] for name, part in found["parts"].items()}
    assert all(value > 0 for values in seconds.values() for value in values)
    assert sum(seconds[part][0] for part in PARTS) == pytest.approx(seconds[STEP][0])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "| optimiser" in capsys.readouterr().out


def test_axes_change_one_quantity_each():
    for axis, scales in axes(quick=False).items():
        assert list(scales) == sorted(set(scales))
        sizes = {
            "tokens": {tokens(scale) for scale in scales.values()},
            "queries": {scale.queries for scale in scales.values()},
            "objects per image": {scale.objects for scale in scales.values()},
            "images": {scale.batch for scale in scales.values()},
        }
        assert [name for name, values in sizes.items() if len(values) > 1] == [axis]
        # DINO's queries are chosen among the tokens
        assert all(scale.queries <= tokens(scale) for scale in scales.values())
