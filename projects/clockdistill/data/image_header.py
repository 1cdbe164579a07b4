"""An image file's size from its header, without decoding a pixel."""

from pathlib import Path

from PIL import ExifTags, Image

_ROTATED_BY_90_DEGREES = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def read_image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of the image as it will be seen, EXIF rotation applied.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the header is no image header that Pillow knows.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            # The base class's method: PngImageFile's own decodes the whole image first.
            orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError) as error:  # Pillow reports a broken PNG as SyntaxError
        raise ValueError(f"unreadable image {path}: {error}. Mend: restore the file.") from error
    return (height, width) if orientation in _ROTATED_BY_90_DEGREES else (width, height)
