"""Tests the checks that refuse a config before any work is done."""

from typing import Any

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.data.samplers import TrainingSampler
from omegaconf import DictConfig, OmegaConf

from projects.clockdistill.engine.checks import check_config
from projects.clockdistill.engine.config_file import ConfigError
from projects.clockdistill.engine.data_config import check_batch_size, unlabelled_per_process


def test_good_configs_pass(plain: DictConfig, distill: DictConfig) -> None:
    for cfg in (plain, distill):
        check_config(cfg)


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


def test_a_loader_that_would_not_read_unlabelled_images_is_refused(distill: DictConfig) -> None:
    distill.dataloader.unlabelled = {"names": ["frames"], "ratio": 0.5}
    check_config(distill)
    distill.dataloader.train.sampler = L(TrainingSampler)(size=12)
    with pytest.raises(ConfigError, match=r"its own sampler .*\nFix: use build_detection"):
        check_config(distill)
    del distill.dataloader.unlabelled.ratio
    with pytest.raises(ConfigError, match="no ratio"):
        check_config(distill)


@pytest.mark.parametrize("ratio", [1 / 6, 1 / 3, 0.3333333, 0.66666667, 5 / 6])
def test_rounded_ratios_are_whole_numbers_of_images(ratio: float) -> None:
    assert unlabelled_per_process(6, ratio) == round(6 * ratio)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5001, 0.99, 1.0])
def test_a_ratio_without_whole_images_of_both_kinds_is_refused(ratio: float) -> None:
    with pytest.raises(ConfigError, match="expected a whole number from 1 to 5"):
        unlabelled_per_process(6, ratio)


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
