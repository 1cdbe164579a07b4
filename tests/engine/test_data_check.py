"""Tests the check of a config's datasets before the first step."""

from pathlib import Path
from typing import Any

import pytest
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf

from projects.clockdistill.data.image_header import ImageError
from projects.clockdistill.engine.arguments import message
from projects.clockdistill.engine.config_file import ConfigError
from projects.clockdistill.engine.data_check import check_data, without_bad_images
from projects.clockdistill.engine.train_loader import build_train_loader
from projects.clockdistill.evaluation.coco import CocoEvaluator
from projects.clockdistill.evaluation.crops import CropAccuracy
from projects.clockdistill.evaluation.kitti import KittiEvaluator
from tests.tiny_run import register_drawings


def test_good_data_passes(plain: DictConfig, distill: DictConfig) -> None:
    for cfg in (plain, distill):
        check_data(cfg, eval_only=False)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "model.num_classes",
            80,
            r"^model\.num_classes=80, but dataloader\.train\.dataset\.names=drawings_train has 2 "
            r"classes \(red, green\)\.\nFix: set model\.num_classes=2",
        ),
        ("model.criterion.num_classes", 3, r"model\.criterion\.num_classes=3"),
        ("dataloader.train.dataset.names", "drawings_trian", r"did you mean drawings_train\?"),
    ],
)
def test_bad_dataset_or_class_count_is_named_with_its_key(
    plain: DictConfig, key: str, value: Any, message: str
) -> None:
    OmegaConf.update(plain, key, value)
    with pytest.raises(ConfigError, match=message):
        check_data(plain, eval_only=False)


@pytest.mark.parametrize("part", ["student", "teacher"])
def test_student_and_teacher_are_both_checked(distill: DictConfig, part: str) -> None:
    distill.model[part].num_classes = 7
    with pytest.raises(ConfigError, match=rf"model\.{part}\.num_classes=7"):
        check_data(distill, eval_only=False)


def test_evaluation_checks_only_the_student_and_the_test_data(distill: DictConfig) -> None:
    distill.model.teacher.num_classes = 7
    distill.dataloader.train.dataset.names = "nowhere"
    check_data(distill, eval_only=True)


def test_a_backbones_own_classifier_is_ignored(plain: DictConfig) -> None:
    plain.model.backbone.num_classes = 1000
    check_data(plain, eval_only=False)


def test_train_and_test_data_of_other_classes_are_refused(
    plain: DictConfig, tmp_path: Path
) -> None:
    register_drawings("drawings_val", tmp_path / "swapped", classes=("green", "red"))
    with pytest.raises(ConfigError, match="same classes"):
        check_data(plain, eval_only=False)


def test_missing_files_are_named(plain: DictConfig, tmp_path: Path) -> None:
    def missing() -> list[dict]:
        raise FileNotFoundError("no folder training/image_2")

    MetadataCatalog.get("drawings_train").set(json_file=str(tmp_path / "no.json"))
    with pytest.raises(ConfigError, match=r"no\.json does not exist.*\n.*datasets/README\.md"):
        check_data(plain, eval_only=False)
    for catalog in (MetadataCatalog, DatasetCatalog):
        catalog.remove("drawings_train")
    DatasetCatalog.register("drawings_train", missing)
    with pytest.raises(ConfigError, match=r"names=drawings_train: no folder training/image_2"):
        check_data(plain, eval_only=False)


# ------------------------------------------------------------------ what is in the files


def records(part: str) -> list[dict]:
    return DatasetCatalog.get(f"drawings_{part}")


def cut(record: dict) -> None:
    path = Path(record["file_name"])
    path.write_bytes(path.read_bytes()[:-30])


def test_tables_of_both_parts_and_warnings_are_logged(plain, caplog) -> None:
    plain.model.num_queries = 1
    records("val")[0]["file_name"] = records("train")[2]["file_name"]
    records("val")[0]["image_id"] = 100
    with caplog.at_level("INFO"):
        check_data(plain, eval_only=False).log()
    assert "| training: drawings_train " in caplog.text
    assert "| validation: drawings_val " in caplog.text
    assert "1 of the 8 validation images are training images" in caplog.text
    # 12 images: every second of two objects, but the fourth, eighth and twelfth have none
    assert "3 objects cannot be matched" in caplog.text


def test_bad_images_of_both_parts_end_the_run_in_one_message(plain) -> None:
    for record in records("train")[1:]:
        cut(record)
    cut(records("val")[3])
    with pytest.raises(ConfigError) as caught:
        check_data(plain, eval_only=False)
    lines = str(caught.value).splitlines()
    assert len(lines) == 11  # ten and "and 2 more"
    assert "dataloader.train.dataset: unreadable image" in lines[0]
    assert "001.png: " in lines[0]
    assert lines[-1] == "and 2 more"


def test_bad_images_are_left_out_of_training_evaluation_and_ground_truth(plain) -> None:
    for part, index in (("train", 2), ("test", 1)):
        plain.dataloader[part].mapper.skip_bad_images = True
        cut(records("val" if part == "test" else part)[index])
    report = check_data(plain, eval_only=False)
    cfg = without_bad_images(plain, report)
    assert len(instantiate(cfg.dataloader.train.dataset)) == 11
    loader = instantiate(cfg.dataloader.test)
    assert [batch[0]["image_id"] for batch in loader] == [0, 2, 3, 4, 5, 6, 7]
    evaluator = instantiate(cfg.dataloader.evaluator[0])
    assert [image["id"] for image in evaluator._ground_truth["images"]] == [0, 2, 3, 4, 5, 6, 7]
    assert 1 not in {item["image_id"] for item in evaluator._ground_truth["annotations"]}
    batches = iter(build_train_loader(cfg.dataloader, 0, 0))
    assert 2 not in {image["image_id"] for _ in range(12) for image in next(batches)}
    assert without_bad_images(plain, check_data(plain, eval_only=True)) is not plain


def test_every_evaluator_that_can_leaves_bad_images_out(plain, caplog) -> None:
    plain.dataloader.evaluator = [
        L(KittiEvaluator)(dataset_name="kitti_val"),
        L(CropAccuracy)(),
        L(CocoEvaluator)(dataset_name="drawings_val"),
    ]
    plain.dataloader.test.mapper.skip_bad_images = True
    cut(records("val")[1])
    cfg = without_bad_images(plain, check_data(plain, eval_only=True))
    kitti, _, coco = cfg.dataloader.evaluator
    assert kitti.left_out == coco.left_out == [1]
    assert "dataloader.evaluator.1 counts the objects of skipped images as not found" in caplog.text
    assert "left_out" not in plain.dataloader.evaluator[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_damaged_during_the_run_is_one_line(plain, workers) -> None:
    for record in records("train"):
        cut(record)
    plain.dataloader.train.num_workers = workers
    with pytest.raises(ImageError) as caught:
        next(iter(build_train_loader(plain.dataloader, 0, 0)))
    text = message(caught.value)
    assert text.startswith("unreadable image ") and len(text.splitlines()) == 1


def test_data_with_nothing_to_learn_is_refused(plain) -> None:
    for record in records("train"):
        record["annotations"] = []
    with pytest.raises(ConfigError, match="no usable object in 12 images"):
        check_data(plain, eval_only=False)


def test_a_file_registered_as_coco_is_checked_once(plain, tmp_path, monkeypatch) -> None:
    from projects.clockdistill.engine import data_check

    path = tmp_path / "bad.json"
    path.write_text('{"images": [{"id": 1}], "annotations": [], "categories": []}')
    register_coco_instances("registered", {}, str(path), str(tmp_path))
    plain.dataloader.train.dataset.names = "registered"
    try:
        with pytest.raises(ConfigError, match=r"bad\.json: .*file_name"):
            check_data(plain, eval_only=False)
        calls = []
        monkeypatch.setattr(data_check, "check_registered_file", calls.append)
        for _ in range(2):
            data_check._check_file("registered")
        assert len(calls) == 1
    finally:
        DatasetCatalog.remove("registered")
        MetadataCatalog.remove("registered")


def test_a_dataset_that_is_empty_or_fails_to_load_is_named(plain) -> None:
    for function, text in ((list, "is empty"), (lambda: [][0], "IndexError")):
        DatasetCatalog.remove("drawings_train")
        DatasetCatalog.register("drawings_train", function)
        with pytest.raises(ConfigError, match=rf"names=drawings_train: .*{text}"):
            check_data(plain, eval_only=False)


@pytest.mark.parametrize("message_of_main", [None, "what the main process found"])
def test_other_processes_wait_for_the_main_process(plain, monkeypatch, message_of_main) -> None:
    report = check_data(plain, eval_only=False)
    cut(records("train")[0])  # only the main process looks at files
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    of_main = (report if message_of_main is None else None, message_of_main)
    monkeypatch.setattr(comm, "all_gather", lambda own: [of_main, own])
    if message_of_main is None:
        assert check_data(plain, eval_only=False) is report
    else:
        with pytest.raises(ConfigError, match=message_of_main):
            check_data(plain, eval_only=False)


def test_a_config_without_a_dataset_is_named(plain) -> None:
    plain.dataloader.test.dataset = None
    with pytest.raises(ConfigError, match=r"the config has no dataloader\.test\.dataset\.names"):
        check_data(plain, eval_only=True)
