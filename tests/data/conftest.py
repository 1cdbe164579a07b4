"""Fixture: small KITTI trees."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def make_tree(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function: {frame: label text} -> root of a tree with images of 1242 x 375."""

    def write(labels: dict[str, str], size: tuple[int, int] = (1242, 375)) -> Path:
        root = tmp_path / "kitti"
        for folder in ("image_2", "label_2"):
            (root / "training" / folder).mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", size)
        for frame, text in labels.items():
            image.save(root / f"training/image_2/{frame}.png")
            (root / f"training/label_2/{frame}.txt").write_text(text)
        return root

    return write
