"""Tests the checks that refuse a config before any work is done."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from projects.clockdistill.engine.config_checks import check_config
from projects.clockdistill.engine.config_file import ConfigError, load_config
from tests.tiny_run import DISTILLED, tiny_overrides


@pytest.fixture
def cfg(tmp_path: Path) -> DictConfig:
    return load_config(DISTILLED, tiny_overrides(tmp_path, DISTILLED))


def test_good_config_passes(cfg: DictConfig) -> None:
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
        ("train.device", "cuda", r"add train\.device=cpu"),
        ("train.amp", {"enabled": True, "dtype": "float16"}, r"Fix: use train\.amp\.dtype=bfloat"),
        ("train.amp", {"enabled": True, "dtype": "fp8"}, "Fix: use bfloat16 or float16"),
    ],
)
def test_bad_value_is_named_with_its_key(
    cfg: DictConfig, monkeypatch: pytest.MonkeyPatch, key: str, value: Any, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    OmegaConf.update(cfg, key, value)
    with pytest.raises(ConfigError, match=message):
        check_config(cfg)


@pytest.mark.parametrize("key", ["lr_multiplier", "train.checkpointer.period"])
def test_missing_key_is_named(cfg: DictConfig, key: str) -> None:
    parent, _, name = key.rpartition(".")
    del (OmegaConf.select(cfg, parent) if parent else cfg)[name]
    with pytest.raises(ConfigError, match=f"the config has no {key}"):
        check_config(cfg)
