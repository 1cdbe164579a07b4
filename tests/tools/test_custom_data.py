"""Tests that any COCO-format dataset trains with two keys per split on the command line."""

import json
from pathlib import Path

import pytest
import train_net
from PIL import Image

SMALL = [  # the real model, reduced so that a CPU takes a step in a second
    "model.num_queries=10",
    "model.transformer.encoder.num_layers=1",
    "model.transformer.decoder.num_layers=1",
    "dataloader.train.mapper.augmentation=[]",
    "dataloader.train.mapper.augmentation_with_crop=null",
    "dataloader.test.mapper.augmentation=[]",
    "dataloader.train.total_batch_size=2",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "train.device=cpu",
    "train.init_checkpoint=''",
    "train.max_iter=2",
]


def dataset(root: Path, split: str) -> list[str]:
    """Writes three images, one of them without objects, and returns the two keys."""
    images, annotations = [], []
    (root / split).mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (96, 64), (90, 40 * number, 60)).save(root / split / f"{number}.png")
        images.append({"id": number + 1, "file_name": f"{number}.png", "width": 96, "height": 64})
        if number:
            box = [10 * number, 8, 30, 40]
            annotations.append({"image_id": number + 1, "category_id": 3 * number, "bbox": box})
    content = {
        "images": images,
        "categories": [{"id": 3, "name": "bicycle"}, {"id": 6, "name": "scooter"}],
        "annotations": annotations,
    }
    (root / f"{split}.json").write_text(json.dumps(content))
    loader = "test" if split == "val" else split
    return [
        f"dataloader.{loader}.dataset.json_file={root / split}.json",
        f"dataloader.{loader}.dataset.image_root={root / split}",
    ]


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    keys = dataset(tmp_path, "train") + dataset(tmp_path, "val")
    config = ["--config-file", "baselines/dino_r18_custom.py"]
    return [*config, *SMALL, f"train.output_dir={tmp_path / 'output'}", *keys]


def test_trains_and_evaluates_per_class(command: list[str], tmp_path: Path) -> None:
    train_net.main([*command, "model.num_classes=2"])
    results = json.loads((tmp_path / "output/results.json").read_text())["bbox"]
    assert {"AP", "AP-bicycle", "AP-scooter"} <= set(results)
    assert ">bicycle<" in (tmp_path / "output/report.html").read_text()


def test_another_number_of_classes_is_refused_with_the_fix(command: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"num_classes=80.*bicycle, scooter\)\.\nFix: set .*=2"):
        train_net.main(command)


def test_missing_keys_are_named(command: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"dataloader.train.dataset.json_file=<path>"):
        train_net.main([part for part in command if "train.json" not in part])


def test_data_is_checked_and_its_tables_are_in_the_log(command: list[str], tmp_path: Path) -> None:
    Image.new("RGB", (96, 64)).save(tmp_path / "val/0.png")
    (tmp_path / "val/1.png").write_bytes(b"<html>")
    with pytest.raises(
        SystemExit, match=r"^error: .*test.dataset: .*val/1.png: it is an HTML page"
    ):
        train_net.main([*command, "model.num_classes=2"])
    skip = "dataloader.test.mapper.skip_bad_images=True"
    train_net.main([*command, "model.num_classes=2", "train.max_iter=1", skip])
    log = (tmp_path / "output/log.txt").read_text()
    for row in ("| training: custom_train ", "| - bicycle ", "| validation: custom_val "):
        assert row in log
    assert "1 images are skipped: unreadable image" in log


def test_an_image_damaged_during_the_run_ends_it_in_one_line(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(cfg, report):
        for path in (tmp_path / "train").iterdir():
            path.write_bytes(path.read_bytes()[:-30])
        return cfg

    monkeypatch.setattr(train_net, "without_bad_images", damage)
    command = [part.replace("train.num_workers=0", "train.num_workers=1") for part in command]
    with pytest.raises(SystemExit, match=r"^error: unreadable image .*restore the file\.$"):
        train_net.main([*command, "model.num_classes=2"])
