"""Damaged image files: the pixels of an image, or one line that names the file."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from projects.clockdistill.data.image_header import ImageError, read_header
from projects.clockdistill.data.image_pixels import read_pixels
from tests.fuzzing import damaged, fuzz


def _encoded(mode: str, format_: str, **options: object) -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    image = Image.fromarray(values).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def _sixteen_bits() -> bytes:
    values = np.random.default_rng(0).integers(0, 2**16, (12, 17), dtype=np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _encoded("RGB", "JPEG", exif=exif)


FILES = {
    "photograph.jpg": _turned(),
    "grey.jpg": _encoded("L", "JPEG"),
    "cmyk.jpg": _encoded("CMYK", "JPEG"),
    "colours.png": _encoded("RGB", "PNG"),
    "palette.png": _encoded("P", "PNG"),
    "transparent.png": _encoded("RGBA", "PNG"),
    "sixteen.png": _sixteen_bits(),
    "picture.gif": _encoded("P", "GIF"),
    "picture.bmp": _encoded("RGB", "BMP"),
    "picture.tif": _encoded("RGB", "TIFF"),
    "picture.webp": _encoded("RGB", "WEBP"),
    "picture.ppm": _encoded("RGB", "PPM"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@fuzz(600)
@given(file=damaged(FILES))
def test_a_damaged_image_is_read_or_named(folder: Path, file: tuple[str, bytes]) -> None:
    name, content = file
    path = folder / name
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about broken metadata, which is not used
        try:
            header = read_header(path)
            pixels = read_pixels(path)
        except ImageError as error:
            assert str(path) in str(error)
            assert "Fix: " in str(error)
            assert len(str(error).splitlines()) == 1
            return
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*header.displayed_size[::-1], 3)


@pytest.mark.parametrize("name", sorted(FILES))
def test_the_whole_file_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name])
    expected = (17, 12, 3) if name == "photograph.jpg" else (12, 17, 3)
    assert read_pixels(path).shape == expected
