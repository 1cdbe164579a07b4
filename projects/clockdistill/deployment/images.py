"""Pictures of any kind -> arrays as the evaluation reads them, and inputs of detectors."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T
from PIL import Image

from projects.clockdistill.data.image_pixels import pixels_of, read_pixels


def fitted_size(height: int, width: int, limits: tuple[int, int]) -> tuple[int, int]:
    """Returns the size of an image shrunk, if need be, until it fits; its shape is kept.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        limits: largest (height, width).
    """
    scale = min(1.0, limits[0] / height, limits[1] / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def read_image(source: np.ndarray | Image.Image | str | Path) -> np.ndarray:
    """Returns an image upright, (H, W, 3) uint8 in RGB order.

    Files and Pillow images are read as the evaluation reads them, see `read_pixels`.

    Args:
        source: a file; a Pillow image; or an array as OpenCV reads it: uint8, (H, W, 3) in BGR
            order, (H, W, 4) in BGRA order, (H, W) or (H, W, 1) in grey.

    Raises:
        MissingImageError, ImageError: as `read_pixels` raises them.
        ValueError: if it is not such an image.
    """
    if isinstance(source, np.ndarray):
        return _from_opencv(source)
    if isinstance(source, Image.Image):
        return pixels_of(source, "the image")
    if not isinstance(source, str | Path):
        raise ValueError(
            f"found an image of type {type(source).__name__}, expected a path, an array (BGR) or a "
            "Pillow image"
        )
    return read_pixels(source)


def detector_input(image: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """Returns an image as detectors take it, with its own height and width.

    Args:
        image: (H, W, 3) uint8, RGB.
        size: (height, width) to resize it to.
    """
    height, width = image.shape[:2]
    pixels = T.ResizeTransform(height, width, *size, Image.BILINEAR).apply_image(image)
    pixels = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    return {"image": pixels, "height": height, "width": width}


def _from_opencv(array: np.ndarray) -> np.ndarray:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ValueError(
            f"found an array of shape {array.shape} and type {array.dtype}, expected (H, W, 3) "
            "uint8 in BGR order"
        )
    if 0 in array.shape:
        raise ValueError(f"found an array of shape {array.shape}, which holds no pixel")
    if channels == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(array[:, :, 2::-1])
