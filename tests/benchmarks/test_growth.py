"""Parts of a step by a fake clock, exponents, and the tool on tiny sizes."""

import json

import pytest
from torch import nn

from benchmarks import growth, part_clock
from benchmarks.growth_axes import Axis, Growth, axes, exponent
from benchmarks.part_clock import PARTS, STEP, PartClock


class Clock:
    """Stands still but for what the modules add."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Slow(nn.Module):
    """Takes so many seconds, then calls what it holds."""

    def __init__(self, clock: Clock, taken: float, *inner: nn.Module):
        super().__init__()
        self.clock, self.taken, self.inner = clock, taken, nn.ModuleList(inner)

    def forward(self) -> None:
        self.clock.now += self.taken
        for module in self.inner:
            module()


def test_parts_do_not_count_what_is_within_them(monkeypatch):
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


def test_exponent():
    assert exponent([2, 4, 8], [3 * 2**1.5, 3 * 4**1.5, 3 * 8**1.5]) == pytest.approx(1.5)


def along(values: list[int], matching: list[float]) -> Growth:
    """A step of one second in which matching takes this much."""
    medians = {STEP: [1.0] * len(values), "matching": matching}
    return Growth(Axis("objects per image", values, []), medians)


def test_the_lower_half_does_not_count():
    grown = along([1, 2, 4, 8], [0.5, 0.5, 0.01, 0.02])  # 4 to 8: proportional
    assert grown.exponent("matching") == pytest.approx(1)


def test_where_matching_bites():
    assert along([8, 64, 512], [0.01, 0.1, 0.4]).matching() == (
        "matching bites from 64 objects per image on: 40% at most"
    )
    assert along([8, 64, 512], [0.01, 0.02, 0.05]).matching() == (
        "matching bites nowhere up to 512 objects per image: at most 5.0% of the step"
    )


def test_the_tool(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(growth, "axes", lambda quick: axes(quick)[:1])
    figures, picture = tmp_path / "a/growth.json", tmp_path / "b/growth.png"
    options = ["--quick", "--rounds", "1", "--json", str(figures), "--plot", str(picture)]
    growth.main(options)
    (tokens,) = json.loads(figures.read_text())["growth"]
    assert tokens["axis"] == "tokens" and tokens["values"][0] < tokens["values"][1]
    assert tokens["parts"].keys() == {*PARTS, STEP}
    for part in tokens["parts"].values():
        assert all(seconds > 0 for seconds in part["seconds"])
    whole = sum(tokens["parts"][part]["seconds"][0] for part in PARTS)
    assert whole == pytest.approx(tokens["parts"][STEP]["seconds"][0])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "| optimiser" in capsys.readouterr().out


def test_axes_change_one_quantity_each():
    for axis in axes(quick=False):
        assert list(axis.values) == sorted(set(axis.values))
        assert len({setting.queries for setting in axis.settings}) in (1, len(axis.values))
        changed = [
            name
            for name, sizes in {
                "tokens": {setting.tokens for setting in axis.settings},
                "queries": {setting.queries for setting in axis.settings},
                "objects per image": {setting.scale.objects for setting in axis.settings},
                "images": {setting.scale.batch for setting in axis.settings},
            }.items()
            if len(sizes) > 1
        ]
        assert changed == [axis.name]
        # DINO's queries are chosen among the tokens
        assert all(setting.queries <= setting.tokens for setting in axis.settings)
