"""Exponents, axes, and benchmarks/growth.py at tiny sizes."""

import json

import pytest

from benchmarks import growth
from benchmarks.growth import PARTS, STEP, axes, exponent, summarize, tokens


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
