"""Tests which settings may change between a run and its continuation."""

from pathlib import Path

import pytest
from omegaconf import DictConfig

from projects.clockdistill.engine.config_file import ConfigError, load_config, save_config
from projects.clockdistill.engine.resumed_config import changes_on_resume
from tests.tiny_run import PLAIN


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a run that can be resumed."""
    save_config(config(tmp_path), tmp_path / "config.yaml")
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    return tmp_path


def config(folder: Path, *overrides: str) -> DictConfig:
    return load_config(PLAIN, [f"train.output_dir={folder}", *overrides])


@pytest.mark.parametrize(
    ("override", "change"),
    [
        ("optimizer.lr=0.5", "optimizer.lr: 0.0015 -> 0.5"),
        ("optimizer.weight_decay=0.5", "optimizer.weight_decay: 0.0001 -> 0.5"),
        ("optimizer.params.lr_factors.backbone=0.5", "lr_factors.backbone: 1.0 -> 0.5"),
        ("optimizer.eps=1e-6", "optimizer.eps: not set -> 1e-06"),
        ("train.max_iter=3200", "train.max_iter: 1600 -> 3200"),
        ("lr_multiplier.warmup_length.steps=3", "lr_multiplier.warmup_length.steps: 200 -> 3"),
        ("train.accumulate_steps=2", "train.accumulate_steps: 1 -> 2"),
    ],
)
def test_what_applies_from_the_resumed_step_on_is_listed(folder, override, change) -> None:
    assert changes_on_resume(config(folder)) == []
    (found,) = changes_on_resume(config(folder, override))
    assert found.endswith(change)


@pytest.mark.parametrize(
    "override",
    [
        "train.seed=1",
        "train.init_checkpoint=other.pth",
        "optimizer._target_=torch.optim.SGD",
        "optimizer.params.lr_factors={neck:0.5}",
        "dataloader.train.total_batch_size=8",
        "dataloader.unlabelled.names=[drawings_val]",
        "dataloader.unlabelled.names=drawings_val",
        "dataloader.unlabelled.ratio=0.25",
    ],
)
def test_what_the_checkpoint_fixes_is_refused(folder: Path, override: str) -> None:
    with pytest.raises(ConfigError, match=r"^--resume: .*, but the run in .*\nFix: leave .*") as e:
        changes_on_resume(config(folder, override))
    assert override.partition("=")[0] in str(e.value)


def test_there_is_nothing_to_compare_without_a_run(folder: Path) -> None:
    (folder / "last_checkpoint").unlink()
    assert changes_on_resume(config(folder, "train.seed=1")) == []
