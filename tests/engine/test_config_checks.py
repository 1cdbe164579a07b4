"""Tests the checks that refuse a config before any work is done."""

from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from projects.clockdistill.engine.config_checks import check_config
from projects.clockdistill.engine.config_file import ConfigError, load_config
from tests.tiny_run import DISTILLED, tiny_overrides


@pytest.fixture
def cfg(tmp_path: Path) -> DictConfig:
    return load_config(DISTILLED, tiny_overrides(tmp_path, DISTILLED))


def test_good_config_passes(cfg: DictConfig) -> None:
    check_config(cfg)


def test_unknown_train_key_of_a_file_is_named(cfg: DictConfig) -> None:
    cfg.train.clip_grad.params.max_nrom = 0.1
    with pytest.raises(
        ConfigError, match=r"train\.clip_grad\.params\.max_nrom; did you mean .*norm"
    ):
        check_config(cfg)


def test_missing_train_key_is_named(cfg: DictConfig) -> None:
    del cfg.train.checkpointer.period
    with pytest.raises(ConfigError, match=r"no train\.checkpointer\.period"):
        check_config(cfg)


def test_missing_part_is_named(cfg: DictConfig) -> None:
    del cfg["lr_multiplier"]
    with pytest.raises(ConfigError, match="no lr_multiplier"):
        check_config(cfg)


def test_argument_that_a_target_does_not_take_is_named_with_its_path(cfg: DictConfig) -> None:
    cfg.model.student.criterion.num_clases = 2
    with pytest.raises(ConfigError) as caught:
        check_config(cfg)
    message = str(caught.value)
    assert "model.student.criterion.num_clases; did you mean model.student.criterion" in message
    assert "DINOCriterion has: num_classes" in message


def test_argument_inside_a_list_is_found(cfg: DictConfig) -> None:
    cfg.dataloader.train.mapper.augmentation = [
        {"_target_": "detectron2.data.transforms.RandomFlip", "probability": 0.5}
    ]
    with pytest.raises(ConfigError, match=r"mapper\.augmentation\.0\.probability"):
        check_config(cfg)


def test_target_that_does_not_exist_is_named(cfg: DictConfig) -> None:
    cfg.model.student._target_ = "tests.tiny_run.NoSuchDetector"
    with pytest.raises(ConfigError, match=r"model\.student\._target_=tests\.tiny_run\.No"):
        check_config(cfg)


def test_missing_device_says_what_to_add(cfg: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg.train.device = "cuda"
    with pytest.raises(ConfigError, match=r"add train\.device=cpu"):
        check_config(cfg)
    cfg.train.device = "gpu"
    with pytest.raises(ConfigError, match=r"train\.device=gpu"):
        check_config(cfg)


@pytest.mark.parametrize(("dtype", "message"), [("float16", "bfloat16"), ("fp8", "bfloat16 or")])
def test_precision_that_the_cpu_lacks_is_refused(cfg: DictConfig, dtype: str, message: str) -> None:
    cfg.train.amp = {"enabled": True, "dtype": dtype}
    with pytest.raises(ConfigError, match=message):
        check_config(cfg)
