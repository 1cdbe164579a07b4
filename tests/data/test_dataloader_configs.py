import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from projects.clockdistill.data import ensure_tree
from projects.clockdistill.engine.data_config import evaluator_calls

COMMON = Path(__file__).parents[2] / "projects/clockdistill/configs/common"


def load(name: str, *overrides: str):
    config = LazyConfig.load(str(COMMON / f"{name}.py"))
    return LazyConfig.apply_overrides(config, list(overrides)).dataloader


@pytest.fixture
def kitti_root(make_tree, monkeypatch):
    """Ten frames of KITTI's size, every second one without objects."""
    car = "Car 0 0 0 600 150 700 250 1.5 1.6 4 0 1.6 20 0\n"
    root = make_tree({f"{i:06d}": car * (i % 2) for i in range(10)})
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root.parent))
    return root


@pytest.mark.parametrize("name", ["coco", "kitti", "synthkitti", "custom"])
def test_the_evaluators_use_the_test_data(name):
    dataloader = load(name)
    calls = evaluator_calls(dataloader).values()
    assert {call.dataset_name for call in calls} == {dataloader.test.dataset.names}
    assert len(calls) == (2 if "kitti" in name else 1)
    assert dataloader.train.dataset.names != dataloader.test.dataset.names


@pytest.mark.parametrize("name", ["coco", "kitti", "synthkitti"])
def test_images_without_objects_are_kept(name):
    dataloader = load(name)
    assert dataloader.train.dataset.filter_empty is False
    assert dataloader.test.dataset.filter_empty is False


def test_kitti_training_images_have_the_paper_size_or_are_crops_of_several_scales(kitti_root):
    np.random.seed(0)
    dataloader = load("kitti")
    mapper = instantiate(dataloader.train.mapper)
    record = next(d for d in DatasetCatalog.get("kitti_train") if d["annotations"])
    mapped = [mapper(record) for _ in range(60)]
    sizes = {tuple(m["image"].shape[1:]) for m in mapped}
    plain = {size for size in sizes if abs(size[1] / size[0] - 1242 / 375) < 0.03}
    assert plain == {(402, 1333)}  # the long side's cap binds for every short side from 480 on
    assert len(sizes - plain) >= 5
    assert max(max(size) for size in sizes) <= 1333
    assert max(min(size) for size in sizes) <= 800
    for one in mapped:
        boxes = one["instances"].gt_boxes.tensor
        height, width = one["image"].shape[1:]
        assert (boxes >= 0).all() and (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()


def test_kitti_test_images_have_the_paper_size(kitti_root):
    loader = instantiate(load("kitti", "dataloader.test.num_workers=0").test)
    batch = next(iter(loader))
    assert batch[0]["image"].shape == (3, 402, 1333)
    assert (batch[0]["height"], batch[0]["width"]) == (375, 1242)


def test_train_loader_yields_images_without_objects(kitti_root):
    overrides = ["dataloader.train.num_workers=0", "dataloader.train.total_batch_size=8"]
    batch = next(iter(instantiate(load("kitti", *overrides).train)))
    assert len(batch) == 8  # the eight training frames, four or so of them empty
    assert {len(item["instances"]) == 0 for item in batch} == {True, False}


def test_synthkitti_is_flipped_and_not_resized(tmp_path):
    root = ensure_tree(tmp_path / "synthkitti", frames=6)
    record = {"file_name": str(root / "training/image_2/000000.jpg"), "height": 96, "width": 320}
    mapper = instantiate(load("synthkitti").train.mapper)
    image = np.asarray(Image.open(record["file_name"])).transpose(2, 0, 1)
    seen = [mapper(record)["image"].numpy() for _ in range(20)]
    assert all((s == image).all() or (s == image[:, :, ::-1]).all() for s in seen)
    assert len({s.tobytes() for s in seen}) == 2


def test_custom_data_needs_only_config_keys(tmp_path):
    overrides = ["dataloader.train.num_workers=0", "dataloader.train.total_batch_size=2"]
    for part, count in (("train", 3), ("test", 2)):
        folder = tmp_path / part
        folder.mkdir()
        for index in range(count):
            Image.new("RGB", (64, 48)).save(folder / f"{index}.png")
        content = {
            "images": [{"id": i, "file_name": f"{i}.png"} for i in range(count)],
            "categories": [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut"}],
            "annotations": [{"image_id": 0, "category_id": 2, "bbox": [8, 8, 30, 20]}],
        }
        (tmp_path / f"{part}.json").write_text(json.dumps(content))
        overrides += [
            f"dataloader.{part}.dataset.json_file={tmp_path}/{part}.json",
            f"dataloader.{part}.dataset.image_root={folder}",
        ]
    dataloader = load("custom", *overrides)
    batch = next(iter(instantiate(dataloader.train)))
    assert len(batch) == 2
    assert len(instantiate(dataloader.test.dataset)) == 2
    assert MetadataCatalog.get(dataloader.evaluator.dataset_name).thing_classes == ["bolt", "nut"]
    evaluator = instantiate(dataloader.evaluator)
    evaluator.reset()
