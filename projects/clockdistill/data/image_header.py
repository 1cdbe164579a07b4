"""Headers of image files: size, kind and rotation, without decoding pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image

from projects.clockdistill.errors import UserError

_ROTATED_BY_90_DEGREES = (5, 6, 7, 8)  # EXIF orientations that swap width and height
# grey images of 16 bits; Pillow opens those of PNG and PPM in mode "I" too, by its version
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
# first bytes, in lower case -> what a file with the name of an image is instead
_CONTENTS = {
    b"<!doctype html": "an HTML page",
    b"<html": "an HTML page",
    b"<?xml": "an XML or SVG file",
    b"<svg": "an SVG file",
    b"version https://git-lfs": "a Git LFS pointer, without the image itself",
    b"%pdf": "a PDF file",
    b"pk\x03\x04": "a ZIP archive",
    b"{": "a JSON file",
}
_LAST_BYTES = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}


class ImageError(UserError):
    """An image file that cannot be used; the message names the file and what it is."""


class MissingImageError(ImageError, FileNotFoundError):
    """An image file that does not exist."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a file says about its image.

    Attributes:
        size: (width, height) in pixels as stored.
        orientation: EXIF's, 1 to 8; 1 is upright.
        mode: Pillow's.
        format: Pillow's name of the file format.
        bits: per channel.
        is_complete: whether the file ends as its format does; None if the end does not tell.
    """

    size: tuple[int, int]
    orientation: int
    mode: str
    format: str
    bits: int
    is_complete: bool | None = None

    @property
    def displayed_size(self) -> tuple[int, int]:
        """(width, height) in pixels with the EXIF rotation applied."""
        return self.size[::-1] if self.orientation in _ROTATED_BY_90_DEGREES else self.size

    def is_turned(self, annotated_size: tuple[int, int] | None) -> bool:
        """Returns whether the EXIF orientation is to be applied; the one place that decides it.

        Boxes belong to the displayed picture, unless the size that comes with them is that of the
        stored one and of nothing else.

        Args:
            annotated_size: (width, height) that the annotations give; None if they give none.
        """
        is_stored = annotated_size == self.size != self.displayed_size
        return self.orientation != 1 and not is_stored


def read_header(path: str | Path) -> ImageHeader:
    """Reads the header of an image file, and its last bytes.

    Raises:
        MissingImageError: if the file does not exist.
        ImageError: if Pillow cannot read the header, or the image is larger than Pillow allows.
    """
    try:
        with open(path, "rb") as file, Image.open(file) as image:
            header = header_of(image)
            is_complete = _is_complete(file, header.format)
    except Exception as error:
        raise image_error(path, error) from error
    return ImageHeader(
        header.size, header.orientation, header.mode, header.format, header.bits, is_complete
    )


def header_of(image: Image.Image) -> ImageHeader:
    """Returns the header of an opened image, whose end is not looked at."""
    try:
        # the base class's method, because PngImageFile's decodes the whole image first
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except Exception:  # Pillow raises many types for broken EXIF data, which others ignore
        orientation = None
    orientation = orientation if orientation in range(2, 9) else 1
    format_ = image.format or ""
    return ImageHeader(image.size, orientation, image.mode, format_, _bits(image, format_))


def _bits(image: Image.Image, format_: str) -> int:
    if image.mode in _SIXTEEN_BITS:
        # Pillow reads TIFF files of 12 bits in this mode without scaling them
        tags = getattr(image, "tag_v2", {}).get(258, ())  # BitsPerSample
        return max(tags, default=16) if isinstance(tags, tuple) else 16
    if image.mode == "I" and format_ in ("PNG", "PPM"):
        return 16
    return 32 if image.mode in ("I", "F") else 8


def _is_complete(file: BinaryIO, format_: str) -> bool | None:
    if format_ == "WEBP":
        return True  # Pillow has refused a file that is cut
    ending = _LAST_BYTES.get(format_)
    if ending is None:
        return None
    length = file.seek(0, 2)
    file.seek(max(0, length - len(ending)))
    return file.read() == ending


def image_error(path: str | Path, error: Exception) -> ImageError:
    """Returns the exception that says what is wrong with an image file, from what Pillow said."""
    if isinstance(error, ImageError):
        return error
    if isinstance(error, FileNotFoundError):
        return MissingImageError(f"image {path} does not exist")
    if isinstance(error, OSError) and error.errno is not None:
        return ImageError(f"unreadable image {path}: {error.strerror}")
    if isinstance(error, Image.DecompressionBombError):
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        return ImageError(
            f"image {path} is too large: {error} Fix: shrink it to at most {limit} megapixels."
        )
    found = _content(path)
    if found is None:
        # Pillow's message for a file of no known format repeats its path
        is_unknown = type(error).__name__ == "UnidentifiedImageError"
        found = "no format that Pillow reads" if is_unknown else f"{error or type(error).__name__}"
        return ImageError(f"unreadable image {path}: {found}. Fix: restore the file.")
    return ImageError(f"unreadable image {path}: it is {found}. Fix: restore the file.")


def _content(path: str | Path) -> str | None:
    """Returns what a file is, if it is a known kind without pixels."""
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError:
        return None
    if not start:
        return "empty"
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"mif1", b"msf1"):
        return "a HEIC photograph"
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((kind for first, kind in _CONTENTS.items() if start.startswith(first)), None)


def read_image_size(path: Path) -> tuple[int, int]:
    """Returns width and height in pixels as the image is displayed, EXIF rotation applied.

    Raises:
        MissingImageError, ImageError: as `read_header` raises them.
    """
    return read_header(path).displayed_size
