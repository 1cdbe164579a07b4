"""Detections on a picture: lines where the boxes are, at any size."""

import numpy as np
import pytest

from projects.clockdistill.visualization.detections import color_of, draw_detections


def columns(picture: np.ndarray, row: int, label: int) -> np.ndarray:
    """Columns of a row that have the colour of a class."""
    return np.flatnonzero((picture[row] == color_of(label)).all(axis=-1))


@pytest.mark.parametrize("scale", [1, 12])
def test_lines_follow_the_box_and_grow_with_the_picture(scale) -> None:
    image = np.full((225 * scale, 320 * scale, 3), 90, np.uint8)
    box = np.array([40, 60, 200, 180]) * scale
    drawn = draw_detections(image, [box], [2], [0.7], ["a", "b", "c"])
    assert (image == 90).all()
    found = columns(drawn, 150 * scale, 2)
    assert (found.min(), found.max()) == (box[0], box[2] - 1)
    # sqrt(225 * 320) / 350 = 0.77 pixels
    assert len(found) == 2 * round(0.77 * scale)
    assert (drawn[150 * scale, 100 * scale] == 90).all()  # the inside stays
    caption = (drawn[50 * scale : 60 * scale] != 90).any(axis=-1)
    assert caption.any()


def test_captions_stay_in_the_picture_and_boxes_at_its_border_are_drawn() -> None:
    image = np.zeros((60, 100, 3), np.uint8)
    drawn = draw_detections(image, [[90, 0, 100, 60]], [0], [0.5], ["a long name"])
    caption = np.flatnonzero((drawn[1] != 0).any(axis=-1))
    assert caption[0] < 50  # moved to the left of its box, whole
    assert columns(drawn, 50, 0).tolist() == [90, 99]
    drawn = draw_detections(image, [[3.0, 30.0, 3.2, 30.1]], [0], [0.5], ["a"])
    assert columns(drawn, 30, 0).tolist() == [3]


def test_a_caption_is_one_line() -> None:
    image = np.zeros((60, 100, 3), np.uint8)
    one, other = (
        draw_detections(image, [[10, 20, 90, 50]], [0], [0.5], [name]) for name in ("a b", "a\nb\r")
    )
    np.testing.assert_array_equal(one, other)


def test_no_two_of_eighty_classes_look_the_same() -> None:
    colors = np.array([color_of(label) for label in range(80)], float)
    distance = np.linalg.norm(colors[:, None] - colors, axis=-1) + 1e3 * np.eye(80)
    assert distance.min() > 6
    assert distance[:10, :10].min() > 45


def test_a_picture_without_detections_is_unchanged() -> None:
    image = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    np.testing.assert_array_equal(draw_detections(image, [], [], [], []), image)
