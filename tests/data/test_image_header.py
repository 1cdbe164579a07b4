import pytest
from PIL import ExifTags, Image

from projects.clockdistill.data.image_header import read_image_size


def test_only_the_header_is_needed(tmp_path):
    Image.effect_noise((400, 300), 50).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:100])  # no pixel left to decode
    assert read_image_size(tmp_path / "a.png") == (400, 300)


def test_exif_rotation_swaps_width_and_height(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (124, 37)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image_size(tmp_path / "a.jpg") == (37, 124)


def test_an_unreadable_or_missing_image_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"unreadable image .*a\.png"):
        read_image_size(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match=r"b\.png"):
        read_image_size(tmp_path / "b.png")
