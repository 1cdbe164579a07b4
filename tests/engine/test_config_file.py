"""Tests lookup, overrides and saving of configs."""

from pathlib import Path

import pytest
from detectron2.utils.registry import locate

from projects.clockdistill.engine.config_file import (
    ConfigError,
    find_config,
    load_config,
    save_config,
)
from tests.tiny_run import PLAIN


def test_overrides_reach_nested_keys_and_arguments_left_at_their_default() -> None:
    cfg = load_config(
        PLAIN,
        [
            "train.max_iter=3",
            "train.init_checkpoint=torchvision://resnet18",
            "train.output_dir=",
            "train.amp.dtype=float16",
            "model.num_classes=5",
            "optimizer.amsgrad=True",  # the config leaves it at its default
        ],
    )
    assert cfg.train.max_iter == 3
    assert cfg.train.init_checkpoint == "torchvision://resnet18"
    assert cfg.train.output_dir == ""
    assert cfg.model.criterion.num_classes == 5  # tied by interpolation
    assert cfg.optimizer.amsgrad is True


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_itr=3", r"unknown config key train\.max_itr; did you mean train\.max_iter\?"),
        ("train.amp.enable=True", r"did you mean train\.amp\.enabled\?"),
        ("optimiser.lr=1", r"unknown config key optimiser\.lr; did you mean optimizer\.lr\?"),
        ("model.dn_numbr=3", r"did you mean model\.dn_number\?"),
        ("model.num_classes.x=1", r"unknown config key model\.num_classes\.x"),
        ("dataloader.train.names=a", r"did you mean dataloader\.train\.dataset\.names\?"),
        ("max_iter=3", r"unknown config key max_iter; did you mean train\.max_iter\?"),
        ("train.max_iter", "Fix: write key=value"),
        ("--resume", "found --resume after key=value"),
    ],
)
def test_unknown_key_ends_with_the_nearest_one(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(PLAIN, [override])


def test_config_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = find_config("common/train.py")
    assert named == find_config("projects/clockdistill/configs/common/train.py")
    monkeypatch.chdir(named.parent)
    assert find_config("train.py") == named


def test_config_with_relative_imports_loads_from_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "common" / "base.py").write_text("train = dict(max_iter=4)\n")
    (tmp_path / "mine" / "x.py").write_text("from ..common.base import train\n")
    monkeypatch.chdir(tmp_path / "mine")
    assert load_config("x.py", []).train.max_iter == 4


def test_missing_config_suggests_one() -> None:
    with pytest.raises(ConfigError, match=r"did you mean .*common/train\.py\?"):
        find_config("common/trian.py")
    with pytest.raises(ConfigError, match="no config"):
        find_config("")


def test_failed_import_in_a_config_is_named(tmp_path: Path) -> None:
    path = tmp_path / "needs_more.py"
    path.write_text("import not_installed_anywhere\n")
    with pytest.raises(ConfigError, match=r"needs_more\.py, line 1: .*not_installed_anywhere"):
        load_config(str(path), [])


def test_saved_config_keeps_the_order_of_its_keys(tmp_path: Path) -> None:
    cfg = load_config(PLAIN, [])
    save_config(cfg, tmp_path / "config.yaml")
    again = load_config(str(tmp_path / "config.yaml"), [])
    assert list(again.model) == list(cfg.model)
    assert list(again.train) == list(cfg.train)
    assert locate(again.model._target_) is cfg.model._target_
