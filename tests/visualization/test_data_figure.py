"""The figure of a dataset's statistics."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from projects.clockdistill.visualization.data_figure import Histogram, save_data_figure

BLUE, ORANGE = (0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00)  # of the first and the second split


def draw(path: Path, counts: dict[str, list[int]], sizes: dict[str, list[float]]) -> np.ndarray:
    values = {name: np.array(of_split, float) for name, of_split in sizes.items()}
    whole = {name: np.array([len(of_split)]) for name, of_split in sizes.items()}
    save_data_figure(
        path,
        [f"class {index}" for index in range(len(next(iter(counts.values()))))],
        {name: np.array(of_split) for name, of_split in counts.items()},
        [
            Histogram("size", "pixels", values, lines={"32": 32.0}),
            Histogram("number", "objects", whole, is_count=True),
        ],
        {name: np.full((len(of_split), 2), 0.5) for name, of_split in sizes.items()},
    )
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def pixels(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Pixels of a colour in the left third, where the bars of the classes are."""
    return (np.abs(picture - color).sum(-1) < 12)[:, : picture.shape[1] // 3]


def test_bars_show_each_split_and_its_shares(tmp_path: Path) -> None:
    sizes = {"a": [10.0, 20.0, 40.0], "b": [100.0]}
    picture = draw(tmp_path / "a.png", {"a": [30, 10], "b": [1, 1]}, sizes)
    lengths = pixels(picture, BLUE).sum(1)
    middle = picture.shape[0] // 2
    # 75 % and 25 % of the split's objects
    assert lengths[:middle].max() == pytest.approx(3 * lengths[middle:].max(), rel=0.1)
    assert pixels(picture, ORANGE).any()


def test_empty_splits_and_many_classes_are_drawn(tmp_path: Path) -> None:
    few = draw(tmp_path / "a.png", {"a": [1, 2, 3], "b": [0, 0, 0]}, {"a": [0.01, 9.0], "b": []})
    assert not pixels(few, ORANGE).any()
    many = draw(tmp_path / "b.png", {"a": [2] * 45, "b": [1] * 45}, {"a": [5.0], "b": [5.0]})
    assert many.shape[0] > 1.5 * few.shape[0]
