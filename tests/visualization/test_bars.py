"""Bars, intervals and markers."""

import numpy as np
import pytest
from PIL import Image

from projects.clockdistill.visualization.bars import Bar, save_bars

NAMES = {"label": "AP", "interval_name": "interval", "marker_name": "paper"}


def draw(path, *bars):
    rows = [f"row {index}" for index in range(len(bars))]
    save_bars(path, "heading", rows, {"panel": bars}, **NAMES)
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def bar_pixels(picture):
    """How many pixels of each line have the colour of the bars."""
    return (np.abs(picture - (0x7A, 0xA6, 0xC2)).sum(-1) < 12).sum(1)


def test_a_bar_twice_as_long_is_twice_as_long(tmp_path):
    lengths = bar_pixels(draw(tmp_path / "a.png", Bar(20.0), Bar(40.0)))
    middle = np.flatnonzero(lengths).mean().astype(int)
    first, second = lengths[:middle].max(), lengths[middle:].max()
    assert second == pytest.approx(2 * first, rel=0.03)


def test_a_row_without_length_has_text_alone(tmp_path):
    picture = draw(tmp_path / "a.png", Bar(None, text="not run"))
    assert bar_pixels(picture).sum() == 0
    assert not np.array_equal(picture, draw(tmp_path / "b.png", Bar(None)))


def test_markers_and_intervals_are_drawn_also_beyond_the_bar(tmp_path):
    plain = draw(tmp_path / "a.png", Bar(20.0))
    marked = draw(tmp_path / "b.png", Bar(20.0, interval=(21.0, 23.0), points=[19.0], marker=30.0))
    red = (np.abs(marked - (0xC8, 0x55, 0x3D)).sum(-1) < 60).sum()
    assert red > 20
    assert (np.abs(plain - (0xC8, 0x55, 0x3D)).sum(-1) < 60).sum() == 0
