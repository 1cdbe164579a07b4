"""Pictures: right size, boxes where they belong, clear errors."""

import json

import matplotlib
import numpy as np
import pytest
from PIL import Image

from projects.clockdistill.visualization.curves import read_metric, save_curves
from projects.clockdistill.visualization.detection_grid import DrawnBox, save_detection_grid

TAB10 = matplotlib.colormaps["tab10"]


@pytest.fixture
def grey_image(tmp_path):
    file = tmp_path / "grey.png"
    Image.new("RGB", (80, 40), (128, 128, 128)).save(file)
    return file


def coloured(picture):
    """Pixels that are not grey."""
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    return (pixels.max(-1) - pixels.min(-1)) > 40


def test_a_box_is_drawn_in_its_own_column_alone(tmp_path, grey_image):
    grid = tmp_path / "grid.png"
    box = DrawnBox((20, 10, 60, 30), label=3, score=0.5)
    save_detection_grid(grid, [grey_image], {"a": [[]], "b": [[box]]}, list("wxyz"), TAB10)
    left, right = np.array_split(coloured(grid), 2, axis=1)
    assert not left.any() and right.sum() > 100


def test_a_column_that_misses_images_is_refused(tmp_path, grey_image):
    with pytest.raises(ValueError, match="column 'a' has boxes for 0 images, 1 are shown"):
        save_detection_grid(tmp_path / "grid.png", [grey_image], {"a": []}, ["car"], TAB10)


def test_curves_show_what_the_lines_say(tmp_path):
    metrics = tmp_path / "metrics.json"
    lines = [{"iteration": 19, "total_loss": 3.0}, {"iteration": 39, "lr": 1.0}]
    metrics.write_text("\n".join(json.dumps(line) for line in lines))
    assert read_metric(metrics, "total_loss") == ([20], [3.0])
    save_curves(tmp_path / "c.png", {"run": metrics}, ["total_loss", "lr"], ["Loss", "Rate"])
    assert coloured(tmp_path / "c.png").any()


def test_a_broken_line_is_named(tmp_path):
    metrics = tmp_path / "metrics.json"
    metrics.write_text('{"iteration": 1}\n{"itera')
    with pytest.raises(ValueError, match="metrics.json, line 2"):
        read_metric(metrics, "total_loss")
