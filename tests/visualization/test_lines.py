"""Lines through means over a varied quantity."""

import numpy as np
from PIL import Image

from projects.clockdistill.visualization.lines import save_lines

NAMES = {"x_label": "labelled frames", "y_label": "AP"}
BLUE = (0x1F, 0x77, 0xB4)


def blue_rows(path, lines, log_x=False):
    """Draws lines and returns how many pixels of each row of the picture are of the first line."""
    save_lines(path, "heading", lines, log_x=log_x, **NAMES)
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return (np.abs(picture - BLUE).sum(-1) < 40).sum(1)


def test_the_line_goes_through_the_means(tmp_path):
    # level: both means are 20, whatever the single values
    level = {"a": [(1.0, [10.0, 30.0]), (2.0, [20.0])], "b": [(1.0, [0.0]), (2.0, [40.0])]}
    rows = blue_rows(tmp_path / "a.png", level)
    assert rows.max() > 300  # of one row
    tilted = {**level, "a": [(1.0, [10.0]), (2.0, [30.0])]}
    assert blue_rows(tmp_path / "b.png", tilted).max() < 150


def test_points_without_values_are_left_out(tmp_path):
    lines = {"a": [(1.0, [10.0]), (2.0, [30.0])]}
    more = {"a": [*lines["a"], (1.5, [])]}
    rows = [
        blue_rows(tmp_path / f"{i}.png", one, log_x=True)
        for i, one in enumerate((lines, more, {"a": []}))
    ]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert rows[2].max() < rows[0].sum()
