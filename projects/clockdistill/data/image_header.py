"""Image size from the file's header, without decoding pixels."""

from pathlib import Path

from PIL import ExifTags, Image

_ROTATED_BY_90_DEGREES = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def read_image_size(path: Path) -> tuple[int, int]:
    """Returns width and height in pixels as the image is displayed, EXIF rotation applied.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if Pillow cannot read the header.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            # The base class's method, because PngImageFile's decodes the whole image first.
            orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError) as error:  # Pillow reports a broken PNG as SyntaxError
        raise ValueError(f"unreadable image {path}: {error}. Fix: restore the file.") from error
    return (height, width) if orientation in _ROTATED_BY_90_DEGREES else (width, height)
