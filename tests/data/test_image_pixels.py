"""Tests that image files of every kind are read in one way, or refused in one line."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from projects.clockdistill.data.image_header import ImageError, MissingImageError, read_header
from projects.clockdistill.data.image_pixels import read_pixels
from projects.clockdistill.data.mapper import DetrMapper
from projects.clockdistill.deployment.images import read_image

SIXTEEN = np.array([[0, 257, 40_000], [65_535, 128, 129]], np.uint16)
EIGHT = [[0, 1, 156], [255, 0, 1]]  # divided by 257 and rounded: 40000 / 257 = 155.6


def save(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bits_are_divided_by_257_for_training_and_prediction(tmp_path, name) -> None:
    path = save(tmp_path / name, SIXTEEN)
    assert read_header(path).bits == 16
    for pixels in (
        read_pixels(path),
        read_image(path),
        DetrMapper([])({"file_name": str(path)})["image"].permute(1, 2, 0).numpy(),
    ):
        assert pixels.dtype == np.uint8
        assert pixels[:, :, 0].tolist() == pixels[:, :, 2].tolist() == EIGHT


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bits_are_refused_with_file_and_mode(tmp_path, dtype) -> None:
    path = save(tmp_path / "deep.tif", np.full((4, 5), 70_000, dtype))
    for read in (read_pixels, read_image, lambda path: DetrMapper([])({"file_name": str(path)})):
        with pytest.raises(ImageError, match=r"deep\.tif has 32 bits per channel \(mode [IF]\)"):
            read(path)


def test_12_bits_are_refused(tmp_path) -> None:
    entries = [(256, 4), (257, 2), (258, 12), (259, 1), (262, 1), (273, 122), (277, 1), (278, 2)]
    entries.append((279, 12))  # two rows of four values of 12 bits
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + tags + bytes(4)
    (tmp_path / "a.tif").write_bytes(head.ljust(122, b"\0") + bytes(12))
    with pytest.raises(ImageError, match="has 12 bits per channel"):
        read_pixels(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_8_bit_modes_are_read_as_detectron2_reads_them(tmp_path, mode) -> None:
    from detectron2.data import detection_utils

    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    np.testing.assert_array_equal(read_pixels(path), detection_utils.read_image(path, "RGB"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_photographs_follow_the_size_that_the_annotations_give(
    tmp_path, orientation
) -> None:
    from detectron2.data import detection_utils

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(stored).save(path, exif=exif)
    displayed = detection_utils.read_image(path, "RGB")
    np.testing.assert_array_equal(read_pixels(path), displayed)
    size = displayed.shape[1], displayed.shape[0]
    assert read_header(path).displayed_size == size
    np.testing.assert_array_equal(read_pixels(path, size), displayed)
    if size != (6, 4):
        np.testing.assert_array_equal(read_pixels(path, (6, 4)), stored)


def noise(path: Path) -> bytes:
    Image.effect_noise((60, 40), 50).convert("RGB").save(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\n<!DOCTYPE html>\n<html>login", "it is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "it is a Git LFS pointer"),
        (b'{"error": 404}', "it is a JSON file"),
        (b"\0\0\0\x18ftypheic\0\0", "it is a HEIC photograph"),
        (b"anything", "no format that Pillow reads"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, content, message) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for read in (read_header, read_pixels):
        with pytest.raises(ImageError, match=rf"^unreadable image .*a\.jpg: {message}") as caught:
            read(path)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif"])
def test_a_truncated_file_is_found_by_its_end_and_by_decoding(tmp_path, name) -> None:
    path = tmp_path / name
    content = noise(path)
    assert read_header(path).is_complete
    path.write_bytes(content[: len(content) * 2 // 3])
    assert read_header(path).is_complete is False
    with pytest.raises(ImageError, match=rf"unreadable image .*{name}"):
        read_pixels(path)


def test_a_truncated_webp_is_found_in_the_header(tmp_path) -> None:
    path = tmp_path / "a.webp"
    content = noise(path)
    assert read_header(path).is_complete
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(ImageError, match=r"unreadable image .*a\.webp"):
        read_header(path)


def test_too_many_pixels_are_found_in_the_header(tmp_path) -> None:
    path = tmp_path / "a.bmp"
    content = bytearray(noise(path))
    content[18:26] = struct.pack("<ii", 20_000, 20_000)
    path.write_bytes(content)
    for read in (read_header, read_pixels):
        with pytest.raises(ImageError, match=r"a\.bmp is too large.*Fix: .* 178 megapixels"):
            read(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path) -> None:
    with pytest.raises(MissingImageError, match=r"b\.png does not exist"):
        read_pixels(tmp_path / "b.png")
    with pytest.raises(ImageError, match="Is a directory"):
        read_header(tmp_path)


def test_another_size_than_the_annotations_say_is_refused(tmp_path) -> None:
    noise(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"a\.png is 60 x 40, but its annotations say 61 x 40"):
        read_pixels(tmp_path / "a.png", (61, 40))
