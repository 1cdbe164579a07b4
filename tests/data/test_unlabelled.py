"""Images without labels from datasets and folders."""

from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from projects.clockdistill.data.unlabelled import checked_unlabelled_dicts, unlabelled_dicts
from projects.clockdistill.errors import UserError
from tests.tiny_run import register_drawings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of other sizes, one of them a level deeper, and a file that is none."""
    folder = tmp_path / "frames"
    (folder / "night").mkdir(parents=True)
    for name, size in (("b.png", (30, 20)), ("a.JPG", (40, 10)), ("night/c.png", (5, 6))):
        Image.new("RGB", size).save(folder / name)
    (folder / "times.txt").write_text("0.1\n")
    return folder


def test_a_folder(folder: Path) -> None:
    found = unlabelled_dicts([str(folder)])
    assert [Path(record["file_name"]).name for record in found] == ["a.JPG", "b.png", "c.png"]
    assert [(record["width"], record["height"]) for record in found] == [(40, 10), (30, 20), (5, 6)]
    assert all(record["unlabelled"] and "annotations" not in record for record in found)


def test_annotations_of_a_dataset_are_left_out(tmp_path: Path, folder: Path) -> None:
    name = register_drawings("drawings_unlabelled", tmp_path / "d", images=4)
    found = checked_unlabelled_dicts([name, str(folder)])
    assert len(found) == 4 + 3
    labelled = DatasetCatalog.get(name)
    assert any(record["annotations"] for record in labelled)
    for record, source in zip(found[:4], labelled, strict=True):
        assert record == {
            "file_name": source["file_name"],
            "image_id": source["image_id"],
            "height": 48,
            "width": 64,
            "unlabelled": True,
        }


def test_a_dataset_without_sizes(folder: Path) -> None:
    DatasetCatalog.register("no_sizes", lambda: [{"file_name": str(folder / "b.png")}])
    assert checked_unlabelled_dicts(["no_sizes"]) == [
        {"file_name": str(folder / "b.png"), "unlabelled": True}
    ]
    DatasetCatalog.remove("no_sizes")


def test_refusals(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match="neither a registered dataset nor a folder"):
        unlabelled_dicts(["kitty_train"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        unlabelled_dicts([str(tmp_path / "empty")])
    (folder / "d.png").write_bytes((folder / "b.png").read_bytes()[:-30])
    with pytest.raises(UserError, match=r"1 images cannot be used:\n.*d\.png"):
        checked_unlabelled_dicts([str(folder)])
    for name in ("e.png", "f.png"):
        (folder / name).touch()
    with pytest.raises(UserError, match=r"2 of 6 images of .*:\n.*e\.png.*f\.png"):
        unlabelled_dicts([str(folder)])
    DatasetCatalog.register("nothing", list)
    with pytest.raises(UserError, match="nothing has no images"):
        unlabelled_dicts(["nothing"])
    DatasetCatalog.remove("nothing")


def test_links_are_followed_and_hidden_files_left_out(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "link").symlink_to(folder)
    (tmp_path / "more" / "._b.png").write_bytes(b"of a file system")
    assert len(unlabelled_dicts([str(tmp_path / "more")])) == 3


def test_files_elsewhere_are_left_to_the_mapper() -> None:
    DatasetCatalog.register("remote", lambda: [{"file_name": "s3://bucket/x.png"}])
    assert len(checked_unlabelled_dicts(["remote"])) == 1
    DatasetCatalog.remove("remote")
