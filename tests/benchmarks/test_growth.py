"""Parts of a step, exponents, and benchmarks/growth.py with small models."""

import json

import pytest

from benchmarks import growth
from benchmarks.growth import axes, exponent, tokens


def test_exponents_are_fitted_to_the_upper_half():
    assert exponent([1, 2, 4, 8], [9, 9, 3 * 4**1.5, 3 * 8**1.5]) == pytest.approx(1.5)


def test_the_tool(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(growth, "axes", lambda quick: {"tokens": axes(quick)["tokens"]})
    figures, picture = tmp_path / "a/growth.json", tmp_path / "b/growth.png"
    options = ["--quick", "--rounds", "1", "--json", str(figures), "--plot", str(picture)]
    growth.main(options)
    (found,) = json.loads(figures.read_text())["growth"]
    assert found["axis"] == "tokens" and found["values"] == [1431, 2921]
    seconds = {name: part["seconds"] for name, part in found["parts"].items()}
    assert all(value > 0 for values in seconds.values() for value in values)
    parts = [values[0] for name, values in seconds.items() if name != "step"]
    assert sum(parts) == pytest.approx(seconds["step"][0])
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
