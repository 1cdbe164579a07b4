"""Images of a config's datasets, at the size of an exported file."""

from typing import Any

import numpy as np
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import transforms as T
from omegaconf import DictConfig

from projects.clockdistill.deployment.images import fitted_size
from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.engine.config_file import ConfigError


class FitInto(T.Augmentation):
    """Shrinks images that are larger than a size until they fit; keeps their shape.

    Args:
        height: in pixels.
        width: in pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self._limits = height, width

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Returns the resizing of one image (H, W, C)."""
        size = image.shape[:2]
        return T.ResizeTransform(*size, *fitted_size(*size, self._limits))


def fitted(test: DictConfig, height: int, width: int) -> DictConfig:
    """Returns `cfg.dataloader.test` with images that fit into a size."""
    changed = test.copy()
    changed.mapper.augmentation.append(L(FitInto)(height=height, width=width))
    return changed


def common_size(dataset: DictConfig, spec: ModelSpec) -> tuple[int, int]:
    """Returns the smallest height and width that hold all images of a dataset, resized."""
    heights, widths = zip(*_sizes(dataset, spec), strict=True)
    return max(heights), max(widths)


def require_upright(dataset: DictConfig, spec: ModelSpec, height: int, width: int) -> None:
    """Refuses a size that shrinks every image of a dataset more than it would with sides swapped.

    Raises:
        ConfigError: with the fix.
    """
    sizes = _sizes(dataset, spec)
    if all(_scale(*size, height, width) < _scale(*size, width, height) for size in sizes):
        found, wanted = min(sizes), f"--height {width} --width {height}"
        raise ConfigError(
            f"--height {height} --width {width} shrinks every validation image (for example of "
            f"{found[0]} x {found[1]}); {wanted} would not, or less.\nFix: {wanted}"
        )


def _sizes(dataset: DictConfig, spec: ModelSpec) -> set[tuple[int, int]]:
    """Returns height and width of the images of a dataset, resized."""
    sizes = {(record["height"], record["width"]) for record in instantiate(dataset)}
    return {spec.input_size(*size) for size in sizes}


def _scale(height: int, width: int, *limits: int) -> float:
    """Returns how much of an image's sides is left when it fits into (height, width)."""
    return min(1.0, limits[0] / height, limits[1] / width)


def dataset_images(dataset: DictConfig, mapper: DictConfig, count: int) -> list[dict[str, Any]]:
    """Returns images that lie evenly over a dataset, as detectors take them.

    Args:
        dataset: of a loader in the config.
        mapper: of the test loader.
        count: number of images; all if the dataset has fewer.
    """
    records = instantiate(dataset)
    chosen = np.linspace(0, len(records) - 1, min(count, len(records))).round().astype(int)
    read = instantiate(mapper)
    return [{"image": read(records[index])["image"]} for index in chosen]


def noise_images(count: int, height: int, width: int) -> list[dict[str, Any]]:
    """Returns the same random images at each call."""
    generator = torch.Generator().manual_seed(0)
    return [
        {"image": torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)}
        for _ in range(count)
    ]
