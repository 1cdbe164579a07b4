"""Tests the checks that refuse a config, or its datasets, before any work is done."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import DictConfig, OmegaConf

from projects.clockdistill.engine.checks import check_batch_size, check_config, check_data
from projects.clockdistill.engine.config_file import ConfigError, load_config
from tests.tiny_run import DISTILLED, PLAIN, register_drawings, tiny_overrides


@pytest.fixture
def plain(tmp_path: Path) -> DictConfig:
    return load_config(PLAIN, tiny_overrides(tmp_path))


@pytest.fixture
def distill(tmp_path: Path) -> DictConfig:
    return load_config(DISTILLED, tiny_overrides(tmp_path, DISTILLED))


def test_good_configs_pass(plain: DictConfig, distill: DictConfig) -> None:
    for cfg in (plain, distill):
        check_config(cfg)
        check_data(cfg, eval_only=False)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.clip_grad.params.max_nrom", 0.1, r"params\.max_nrom; did you mean .*norm"),
        (
            "model.student.criterion.num_clases",
            2,
            r"did you mean model\.student\.criterion\.num_cl.*\nDINOCriterion has: num_classes, ",
        ),
        (
            "dataloader.train.mapper.augmentation",
            [{"_target_": "detectron2.data.transforms.RandomFlip", "probability": 0.5}],
            r"mapper\.augmentation\.0\.probability",
        ),
        ("model.student._target_", "tests.tiny_run.No", r"student\._target_=tests\.tiny_run\.No"),
        ("train.device", "gpu", r"train\.device=gpu"),
        ("train.device", "cuda", r"Fix: use train\.device=cpu"),
        ("train.amp", {"enabled": True, "dtype": "float16"}, r"Fix: use train\.amp\.dtype=bfloat"),
        ("train.amp", {"enabled": True, "dtype": "fp8"}, "dtype=fp8: expected bfloat16 or float16"),
    ],
)
def test_bad_value_is_named_with_its_key(
    distill: DictConfig, monkeypatch: pytest.MonkeyPatch, key: str, value: Any, message: str
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    OmegaConf.update(distill, key, value)
    with pytest.raises(ConfigError, match=message):
        check_config(distill)


@pytest.mark.parametrize(
    ("steps", "processes", "message"),
    [
        (3, 1, r"total_batch_size=4 cannot be split .*steps=3 .*\nFix: use a multiple of 3"),
        (2, 4, r"4 process\(es\) with train\.accumulate_steps=2 .*\nFix: use a multiple of 8"),
    ],
)
def test_batch_that_does_not_split_is_refused(
    plain: DictConfig, steps: int, processes: int, message: str
) -> None:
    plain.train.accumulate_steps = 2
    check_batch_size(plain, processes=2)  # 4 images: 2 processes with 2 chunks each
    plain.train.accumulate_steps = steps
    with pytest.raises(ConfigError, match=message):
        check_batch_size(plain, processes)


@pytest.mark.parametrize("key", ["lr_multiplier", "train.checkpointer.period"])
def test_missing_key_is_named(distill: DictConfig, key: str) -> None:
    parent, _, name = key.rpartition(".")
    del (OmegaConf.select(distill, parent) if parent else distill)[name]
    with pytest.raises(ConfigError, match=f"the config has no {key}"):
        check_config(distill)


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
