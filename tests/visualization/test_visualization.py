"""Pictures: boxes where they belong, curves of what was logged."""

import numpy as np
import pytest
from PIL import Image

from projects.clockdistill.visualization.curves import save_curves
from projects.clockdistill.visualization.detection_grid import DrawnBox, save_detection_grid


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
    save_detection_grid(grid, [grey_image], {"a": [[]], "b": [[box]]}, list("wxyz"))
    left, right = np.array_split(coloured(grid), 2, axis=1)
    assert not left.any() and right.sum() > 100


def test_each_metric_has_a_panel_of_the_runs_that_logged_it(tmp_path):
    lines = [{"iteration": 19, "total_loss": 3.0}, {"iteration": 39, "total_loss": 2.0, "lr": 1.0}]
    titles = {"total_loss": "Loss", "lr": "Rate"}
    save_curves(tmp_path / "curves.png", {"one": lines, "another": lines[:1]}, titles)
    save_curves(tmp_path / "fewer.png", {"one": lines, "another": []}, titles)
    both, fewer = coloured(tmp_path / "curves.png"), coloured(tmp_path / "fewer.png")
    middle = both.shape[1] // 2
    assert both[:, :middle].sum() > fewer[:, :middle].sum()
    assert (both[:, middle:] == fewer[:, middle:]).all() and fewer[:, middle:].any()
