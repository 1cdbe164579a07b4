"""Image files -> arrays: the one way in which training, evaluation and prediction read them."""

from pathlib import Path

import numpy as np
from PIL import Image

from projects.clockdistill.data.image_header import (
    ImageError,
    ImageHeader,
    header_of,
    image_error,
    read_header,
)

_TURNS = {  # EXIF orientation -> what makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_pixels(path: str | Path, annotated_size: tuple[int, int] | None = None) -> np.ndarray:
    """Reads an image file, (H, W, 3) uint8 in RGB order.

    Transparency is dropped. Grey images of 16 bits are divided by 257, so that 65535 becomes 255;
    images of other depths are refused.

    Args:
        path: the file.
        annotated_size: (width, height) that the annotations give, which decides whether an EXIF
            rotation is applied; None applies it.

    Raises:
        MissingImageError: if the file does not exist.
        ImageError: if the image cannot be used, or has not the annotated size.
    """
    try:
        with open(path, "rb") as file, Image.open(file) as image:
            pixels = pixels_of(image, str(path), annotated_size)
    except Exception as error:
        raise image_error(path, error) from error
    found = pixels.shape[1], pixels.shape[0]
    if annotated_size is not None and found != annotated_size:
        raise ImageError(_wrong_size(path, found, annotated_size))
    return pixels


def check_image(
    path: str | Path, annotated_size: tuple[int, int] | None = None, *, decode: bool = False
) -> ImageHeader:
    """Returns the header of an image file that `read_pixels` can read.

    Args:
        path: the file.
        annotated_size: as for `read_pixels`.
        decode: whether to decode the image. If False, only a file is decoded whose end is not that
            of its format.

    Raises:
        MissingImageError, ImageError: as `read_pixels` raises them.
    """
    header = read_header(path)
    if why := _unusable_depth(header):
        raise ImageError(f"image {path} {why}")
    found = header.displayed_size if header.is_turned(annotated_size) else header.size
    if annotated_size is not None and found != annotated_size:
        raise ImageError(_wrong_size(path, found, annotated_size))
    if decode or not header.is_complete:
        read_pixels(path, annotated_size)
    return header


def _wrong_size(path: str | Path, found: tuple[int, int], annotated: tuple[int, int]) -> str:
    """Returns the message about an image of another size than its annotations say."""
    return (
        f"image {path} is {found[0]} x {found[1]}, but its annotations say {annotated[0]} x "
        f"{annotated[1]}. Fix: correct width and height, or use the image that was annotated."
    )


def _unusable_depth(header: ImageHeader) -> str | None:
    """Returns why images of a depth are refused; None if they are read."""
    if header.bits in (8, 16):
        return None
    return (
        f"has {header.bits} bits per channel (mode {header.mode}), whose range of values is "
        "unknown. Fix: convert it to 8 or 16 bits"
    )


def pixels_of(
    image: Image.Image, name: str, annotated_size: tuple[int, int] | None = None
) -> np.ndarray:
    """Returns the pixels of an opened image as `read_pixels` does.

    Args:
        image: of Pillow.
        name: for messages.
        annotated_size: as for `read_pixels`.
    """
    header = header_of(image)
    if why := _unusable_depth(header):
        raise ImageError(f"{name} {why}")
    if header.is_turned(annotated_size):
        image = image.transpose(_TURNS[header.orientation])
    if header.bits == 16:
        grey = np.clip(np.asarray(image), 0, 65535).astype(np.uint32)
        grey = ((grey + 128) // 257).astype(np.uint8)  # rounded
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.asarray(image.convert("RGB"))
