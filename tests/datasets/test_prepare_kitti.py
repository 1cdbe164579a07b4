import json
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "datasets/prepare_kitti.py"
CAR = "Car 0 0 0 100 50 200 150 1.5 1.6 4 0 1.6 20 0\n"
TINY = "Pedestrian 0 0 0 10 50 20 75 1.5 1.6 4 0 1.6 20 0\n"
DONT_CARE = "DontCare -1 -1 -10 300 50 310 60 -1 -1 -1 -1000 -1000 -1000 -10\n"


@pytest.fixture
def run(monkeypatch, capsys):
    """Returns a function that runs the script -> exit code, standard output, standard error."""
    main = runpy.run_path(str(SCRIPT))["main"]

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["prepare_kitti.py", *map(str, arguments)])
        return main(), *capsys.readouterr()

    return call


@pytest.fixture
def root(tmp_path) -> Path:
    """Ten valid frames of KITTI's size."""
    for folder in ("image_2", "label_2"):
        (tmp_path / "kitti/training" / folder).mkdir(parents=True)
    picture = Image.effect_noise((1242, 375), 30).convert("RGB")
    for index in range(10):
        picture.save(tmp_path / f"kitti/training/image_2/{index:06d}.png", compress_level=1)
        label = tmp_path / f"kitti/training/label_2/{index:06d}.txt"
        label.write_text(CAR + TINY + DONT_CARE)
    return tmp_path / "kitti"


def test_a_valid_tree_passes_with_tables(run, root):
    code, out, err = run(root)
    assert (code, err) == (0, "")
    assert "10 frames" in out and "no problems" in out
    cells = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in out.splitlines()
        if line.startswith("|")
    }
    assert cells["1242 x 375"] == ["10"]
    # 100 x 100 px is more than 96 x 96, 10 x 25 less than 32 x 32
    assert cells["Car"] == ["10", "0", "0", "10", "100", "100", "100"]
    assert cells["Pedestrian"] == ["10", "10", "0", "0", "25", "25", "25"]
    assert cells["Tram"][0] == "0"


def test_every_problem_is_listed(run, root):
    images, labels = root / "training/image_2", root / "training/label_2"
    (labels / "000000.txt").unlink()
    (images / "000001.png").unlink()
    (labels / "000002.txt").write_text(CAR + "Car 0 0\n" + CAR.replace("Car", "Bus"))
    content = (images / "000003.png").read_bytes()
    (images / "000003.png").write_bytes(content[: len(content) // 2])
    (images / "000004.png").write_bytes(b"")
    (images / "notes.doc").write_text("")
    (labels / "000005.xml").write_text("")
    code, _, err = run(root)
    assert code == 1
    for part in (
        "image_2/000000.png: no label file 000000.txt",
        "label_2/000001.txt: no image 000001.png",
        "label_2/000002.txt:2: 3 fields, expected 15",
        "label_2/000002.txt:3: field 1 (type) is 'Bus'",
        "000003.png",
        "000004.png",
        "image_2/notes.doc: unexpected",
        "label_2/000005.xml: unexpected",
        "8 problems",
    ):
        assert part in err


def test_a_truncated_jpeg_is_found(run, root):
    path = root / "training/image_2/000003.jpg"
    Image.open(path.with_suffix(".png")).save(path)
    path.with_suffix(".png").unlink()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    code, _, err = run(root)
    assert code == 1 and "unreadable image" in err and "000003.jpg" in err


def test_a_missing_tree_is_named(run, tmp_path):
    code, _, err = run(tmp_path)
    assert code == 1 and "image_2" in err and "DETECTRON2_DATASETS" in err


@pytest.mark.parametrize(("split", "count"), [("all", 10), ("train", 8), ("val", 2)])
def test_coco_json_of_all_or_a_part(run, root, tmp_path, split, count):
    code, _, _ = run(root, "--coco-json", tmp_path / "out.json", "--split", split)
    content = json.loads((tmp_path / "out.json").read_text())
    assert code == 0
    assert len(content["images"]) == count
    assert content["images"][0]["file_name"].endswith(".png")
    assert "/" not in content["images"][0]["file_name"]
    assert [c["name"] for c in content["categories"]][:2] == ["Car", "Van"]
    targets = [a for a in content["annotations"] if not a["iscrowd"]]
    assert len(targets) == 2 * count
    assert targets[0] | {"id": 0, "image_id": 0} == {
        "id": 0,
        "image_id": 0,
        "category_id": 1,
        "bbox": [100, 50, 100, 100],
        "area": 10000,
        "iscrowd": 0,
    }
    assert len(content["annotations"]) == (2 + 7) * count  # DontCare once for each class


def test_a_broken_tree_writes_no_json(run, root, tmp_path):
    (root / "training/label_2/000000.txt").unlink()
    code, _, err = run(root, "--coco-json", tmp_path / "out.json")
    assert code == 1 and "not written" in err and not (tmp_path / "out.json").exists()


def test_the_split_files_of_training_are_those_of_the_json(run, root, tmp_path, monkeypatch):
    (tmp_path / "train.txt").write_text("000002\n000003")
    (tmp_path / "val.txt").write_text("000007")
    monkeypatch.setenv("CLOCKDISTILL_KITTI_SPLIT", str(tmp_path))
    code, out, _ = run(root, "--coco-json", tmp_path / "out.json", "--split", "val")
    assert code == 0 and "$CLOCKDISTILL_KITTI_SPLIT" in out
    images = json.loads((tmp_path / "out.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["000007.png"]
    (tmp_path / "val.txt").write_text("9")
    with pytest.raises(SystemExit, match=r"^error: .*val\.txt:1: unknown frame '9'"):
        run(root, "--coco-json", tmp_path / "out.json", "--split", "val")


def test_a_file_that_cannot_be_written_is_one_line(run, root):
    with pytest.raises(SystemExit, match="^error: .*Is a directory"):
        run(root, "--coco-json", root)
    with pytest.raises(OSError):
        run(root, "--coco-json", root, "--debug")
