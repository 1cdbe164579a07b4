"""Pictures: boxes where they belong, curves of what was logged."""

import numpy as np
import pytest
from PIL import Image

from projects.clockdistill.visualization.curves import save_curves
from projects.clockdistill.visualization.detection_grid import (
    DrawnBox,
    Outcome,
    Picture,
    save_detection_grid,
    save_picture_grid,
    save_picture_pages,
)


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


def test_names_are_no_formulas(tmp_path, grey_image):
    box = DrawnBox((20, 10, 60, 30), label=0, score=0.5)
    save_detection_grid(tmp_path / "grid.png", [grey_image], {"$^$": [[box]]}, ["$^$"])


def drawn(path, *boxes, note=""):
    """The pixels that are not grey when boxes are drawn on a grey picture of 80 x 40."""
    picture = Picture(np.full((40, 80, 3), 128, np.uint8), boxes, note=note)
    save_picture_grid(path, [[picture]], list("wxyz"))
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_outcomes_differ_in_their_lines_not_only_in_colour(tmp_path):
    lit = {}
    for outcome in Outcome:
        box = DrawnBox((20, 10, 60, 30), label=0, outcome=outcome)
        picture = drawn(tmp_path / "a.png", box)
        # the lower half of the picture, where no caption is
        below = picture[picture.shape[0] // 2 :]
        lit[outcome] = (np.abs(below - 128).max(-1) > 20)[: below.shape[0] // 2].sum()
    del lit[Outcome.IGNORED]
    assert len(set(lit.values())) == 4
    assert max(lit, key=lit.get) is Outcome.HIT  # whose line is solid


def test_a_region_ignored_for_several_classes_is_drawn_once(tmp_path):
    boxes = [DrawnBox((20, 10, 60, 30), label, outcome=Outcome.IGNORED) for label in range(3)]
    several = drawn(tmp_path / "a.png", *boxes)
    np.testing.assert_array_equal(several, drawn(tmp_path / "b.png", *boxes[:2]))
    assert (several != drawn(tmp_path / "c.png", boxes[0])).any()  # which names its class


@pytest.mark.parametrize(("inside", "outside"), [((0, 60), (-40, 60)), ((70, 80), (70, 120))])
def test_the_caption_of_a_box_that_ends_outside_is_not_cut(tmp_path, inside, outside):
    pictures = [
        drawn(tmp_path / "a.png", DrawnBox((left, 20, right, 30), label=0, score=0.5))
        for left, right in (inside, outside)
    ]
    # the caption's letters are all that is white below the picture's upper edge
    letters = [(p[len(p) // 10 : -len(p) // 10].min(-1) > 220).sum(0) for p in pictures]
    middle = slice(4, -4)  # without the margins
    assert letters[0][middle].sum() > 5
    np.testing.assert_array_equal(letters[0][middle], letters[1][middle])


def test_a_picture_without_boxes_can_say_so(tmp_path):
    with_note = drawn(tmp_path / "a.png", note="no objects")
    assert (with_note != drawn(tmp_path / "b.png")).any()


def test_many_rows_become_several_files(tmp_path):
    rows = [[Picture(np.zeros((4, 40, 3), np.uint8))]] * 14
    files = save_picture_pages(tmp_path / "a.png", rows, [])
    assert [file.name for file in files] == ["a.png", "a_2.png"]
    heights = [Image.open(file).height for file in files]
    assert heights[0] == pytest.approx(6 * heights[1], abs=6)  # 12 rows and 2


def test_each_metric_has_a_panel_of_the_runs_that_logged_it(tmp_path):
    lines = [{"iteration": 19, "total_loss": 3.0}, {"iteration": 39, "total_loss": 2.0, "lr": 1.0}]
    titles = {"total_loss": "Loss", "lr": "Rate"}
    save_curves(tmp_path / "curves.png", {"one": lines, "another": lines[:1]}, titles)
    save_curves(tmp_path / "fewer.png", {"one": lines, "another": []}, titles)
    both, fewer = coloured(tmp_path / "curves.png"), coloured(tmp_path / "fewer.png")
    middle = both.shape[1] // 2
    assert both[:, :middle].sum() > fewer[:, :middle].sum()
    assert (both[:, middle:] == fewer[:, middle:]).all() and fewer[:, middle:].any()
