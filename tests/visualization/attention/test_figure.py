"""Figures: bright where the map is high, points where they lie, whatever the picture's shape."""

import numpy as np
import pytest
from PIL import Image

from projects.clockdistill.visualization.attention.figure import Box, Panel, Row, save_figure


def draw(path, shape, *rows):
    image = np.full((*shape, 3), 100, np.uint8)
    save_figure(path, "picture.png", image, rows)
    return np.asarray(Image.open(path).convert("RGB")).astype(float)


def yellow(picture):
    """Pixels of the brightest colour of points: red and green, little blue."""
    return (picture[..., 0] > 220) & (picture[..., 1] > 200) & (picture[..., 2] < 90)


@pytest.mark.parametrize("shape", [(96, 320), (480, 640), (400, 300)])
def test_the_brightest_pixel_is_where_the_map_is_highest(tmp_path, shape) -> None:
    height, width = shape
    y, x = np.mgrid[:height, :width]
    heat = np.exp(-(((x / width - 0.75) / 0.1) ** 2) - ((y / height - 0.25) / 0.1) ** 2)
    picture = draw(tmp_path / "a.png", shape, Row([Panel("title", heat.astype(np.float32))]))
    drawn = np.abs(picture - 255).sum(-1) > 30
    # the image is the largest block: rows of which most are drawn
    rows = np.flatnonzero(drawn.mean(1) > 0.5 * drawn.mean(1).max())
    inside = picture[rows[0] : rows[-1] + 1]
    columns = np.flatnonzero((np.abs(inside - 255).sum(-1) > 30).mean(0) > 0.9)
    columns = columns[: np.argmax(np.diff(columns, append=10**9) > 3) + 1]  # not the colour bar
    inside = inside[:, columns]
    top, left = np.unravel_index(inside[..., :2].sum(-1).argmax(), inside.shape[:2])
    assert left / inside.shape[1] == pytest.approx(0.75, abs=0.05)
    assert top / inside.shape[0] == pytest.approx(0.25, abs=0.05)


def test_columns_of_a_row_share_their_scale_of_weights(tmp_path) -> None:
    where = np.array([[50.0, 50.0], [400.0, 50.0], [50.0, -40.0]])
    strong = Panel("a", points_px=where, weights=np.array([0.9, 0.9, 0.01]))
    weak = Panel("b", points_px=where, weights=np.array([0.2, 0.1, 0.01]))
    picture = draw(tmp_path / "a.png", (96, 320), Row([strong, weak], "weight"))
    halves = np.array_split(yellow(picture), 2, axis=1)
    # the point far to the right is drawn at the border
    assert halves[0].sum() > 30
    assert halves[0][:, : halves[0].shape[1] // 2].sum() > 0
    assert halves[0][:, halves[0].shape[1] // 2 :].sum() > 0
    alone = draw(tmp_path / "b.png", (96, 320), Row([weak], "weight"))
    assert yellow(alone)[:, : alone.shape[1] // 2].sum() > 20
    assert halves[1][:, : halves[1].shape[1] // 2].sum() == 0


def test_panels_without_anything_and_long_titles_are_drawn(tmp_path) -> None:
    box = Box((-5.0, 2.0, 30.0, 60.0), (255, 0, 0), "car 0.90")
    panels = [Panel("x " * 200, boxes=[box], cross_px=(3.0, 4.0)), Panel("")]
    picture = draw(tmp_path / "a.png", (80, 60), Row(panels, "weight"))
    red = (picture[..., 0] > 200) & (picture[..., 1:] < 60).all(-1)
    assert red.sum() > 50
    narrow = draw(tmp_path / "b.png", (2000, 60), Row(panels[1:]))
    assert max(narrow.shape[:2]) < 2500
