import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from projects.clockdistill.data import register_kitti
from projects.clockdistill.data.kitti import load_kitti
from projects.clockdistill.data.kitti_labels import OFFICIAL_TYPES
from projects.clockdistill.data.kitti_presets import PRESETS
from projects.clockdistill.data.kitti_tree import read_tree

REST = "1.50 1.60 4.00 1.00 1.60 20.00 -1.57"


def line(kitti_type: str, box: str = "100 50 200 120") -> str:
    return f"{kitti_type} 0 0 -1.57 {box} {REST}\n"


def load_all(root, preset: str) -> list[dict]:
    dicts = [d for split in ("train", "val") for d in load_kitti(PRESETS[preset], split, root)]
    return sorted(dicts, key=lambda d: d["image_id"])


@pytest.mark.parametrize(
    ("preset", "targets", "ignored"),
    [
        # DontCare is ignored, once for each class
        ("kitti7", [0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6]),
        ("kitti7_no_dontcare", [0, 1, 2, 3, 4, 5, 6], []),
        ("kitti8", [0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7]),
        # Car, Pedestrian, Cyclist; Van ignored for Car, Person_sitting for Pedestrian
        ("kitti3", [0, 1, 2], [0, 1, 0, 1, 2]),
        # Car Van Truck | Pedestrian sitting | Cyclist | Tram
        ("kitti3g", [0, 0, 0, 1, 1, 2, 0], [0, 1, 2]),
    ],
)
def test_presets_choose_targets_and_ignored_regions(make_tree, preset, targets, ignored):
    root = make_tree({"000000": "".join(map(line, OFFICIAL_TYPES)), "000001": ""})
    annotations = load_all(root, preset)[0]["annotations"]
    assert [a["category_id"] for a in annotations if not a["iscrowd"]] == targets
    assert [a["category_id"] for a in annotations if a["iscrowd"]] == ignored


def test_a_frame_becomes_a_standard_dict_clipped_to_the_image(make_tree):
    root = make_tree({"000000": "", "000004": line("Van", "-5 50 200 380")})
    assert load_all(root, "kitti7") == [
        {
            "file_name": str(root / "training/image_2/000000.png"),
            "image_id": 0,
            "height": 375,
            "width": 1242,
            "annotations": [],
        },
        {
            "file_name": str(root / "training/image_2/000004.png"),
            "image_id": 1,
            "height": 375,
            "width": 1242,
            "annotations": [
                {
                    "bbox": [0.0, 50.0, 200.0, 375],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "category_id": 1,
                    "iscrowd": 0,
                    "unclipped_bbox": [-5.0, 50.0, 200.0, 380.0],
                }
            ],
        },
    ]


def test_registered_names_and_classes():
    presets = {name: name for name in ("kitti7_no_dontcare", "kitti8", "kitti3", "kitti3g")}
    presets |= {"kitti": "kitti7", "synthkitti": "kitti7"}
    for prefix, preset in presets.items():
        for split in ("train", "val"):
            assert f"{prefix}_{split}" in DatasetCatalog
            names = MetadataCatalog.get(f"{prefix}_{split}").thing_classes
            assert names == list(PRESETS[preset].classes)


def test_the_root_is_read_when_the_data_is_loaded(make_tree, monkeypatch):
    root = make_tree({f"{i:06d}": line("Car") for i in range(10)})
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root.parent))
    assert len(DatasetCatalog.get("kitti_train")) == 8
    assert len(DatasetCatalog.get("kitti_val")) == 2
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root / "elsewhere"))
    with pytest.raises(FileNotFoundError, match=r"elsewhere/kitti.*\n?.*DETECTRON2_DATASETS"):
        DatasetCatalog.get("kitti_train")


def test_split_files_by_environment(make_tree, monkeypatch, tmp_path):
    root = make_tree({f"{i:06d}": "" for i in range(4)})
    (tmp_path / "train.txt").write_text("000002")
    (tmp_path / "val.txt").write_text("000000\n000001")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root.parent))
    monkeypatch.setenv("CLOCKDISTILL_KITTI_SPLIT", str(tmp_path))
    assert [d["image_id"] for d in DatasetCatalog.get("kitti_train")] == [2]
    assert [d["image_id"] for d in DatasetCatalog.get("kitti3_val")] == [0, 1]


def test_a_tree_too_small_for_a_split_is_named(make_tree):
    root = make_tree({"000000": line("Car")})
    with pytest.raises(
        ValueError, match=r"has 1 frame\(s\), which leaves none for 'val'.*Fix: add"
    ):
        load_kitti(PRESETS["kitti7"], "val", root)


def test_files_for_one_split_alone_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"\['train'\]. Fix: give a file for 'train' and for 'val'"
    ):
        register_kitti("x", split_files={"train": tmp_path / "t"})


def test_objects_that_are_background_are_counted(make_tree):
    root = make_tree({"000000": line("Misc") + line("Misc") + line("Car"), "000001": ""})
    dropped = load_all(root, "kitti7")[0]["dropped"]
    assert dropped == {"objects of type Misc, which is no class": 2}


def test_a_custom_tree_with_split_files(make_tree, tmp_path):
    root = make_tree({f"{i:06d}": "" for i in range(4)})
    (tmp_path / "t").write_text("000002")
    (tmp_path / "v").write_text("000003")
    files = {"train": tmp_path / "t", "val": tmp_path / "v"}
    register_kitti("mine_kitti", "kitti3", root=root, split_files=files)
    try:
        assert [d["image_id"] for d in DatasetCatalog.get("mine_kitti_val")] == [3]
        assert MetadataCatalog.get("mine_kitti_val").thing_classes[0] == "Car"
    finally:
        for split in ("train", "val"):
            DatasetCatalog.remove(f"mine_kitti_{split}")
            MetadataCatalog.remove(f"mine_kitti_{split}")


def test_an_unknown_preset_is_rejected():
    with pytest.raises(ValueError, match=r"unknown KITTI preset 'kitti9'.*kitti7"):
        register_kitti("x", "kitti9")


def test_all_problems_of_a_tree_are_reported_at_once(make_tree):
    root = make_tree(
        {
            "000000": line("Car").replace("120", "oops"),
            "000001": "",
            "000002": line("Car", "1300 50 1400 120"),
            "000003": "",
        }
    )
    (root / "training/label_2/000001.txt").unlink()
    (root / "training/label_2/000009.txt").write_text("")
    (root / "training/image_2/000003.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="5 problems") as raised:
        read_tree(root)
    message = str(raised.value)
    for part in (
        "label_2/000000.txt:1: field 8 (bottom) is 'oops'",
        "image_2/000001.png: no label file 000001.txt",
        "label_2/000002.txt: the box (1300.0, 50.0, 1400.0, 120.0) of a Car lies outside",
        "image_2/000003.png",
        "label_2/000009.txt: no image",
        "prepare_kitti.py",
    ):
        assert part in message


def test_a_second_load_reads_no_file(make_tree, tmp_path):
    root = make_tree({f"{i:06d}": line("Car") for i in range(10)})
    first = load_kitti(PRESETS["kitti7"], "train", root)
    (root / "training/image_2").rename(tmp_path / "gone")
    again = load_kitti(PRESETS["kitti7"], "train", root)
    assert again == first and again[0] is not first[0]
    assert len(load_kitti(PRESETS["kitti7"], "val", root)) == 2


def test_jpeg_images_are_accepted(make_tree):
    root = make_tree({"000000": "", "000001": ""})
    (root / "training/image_2/000001.png").unlink()
    Image.new("RGB", (640, 200)).save(root / "training/image_2/000001.jpg")
    assert [(d["width"], d["height"]) for d in load_all(root, "kitti7")] == [
        (1242, 375),
        (640, 200),
    ]
