"""The tiny configs on drawings that tests of checks start from."""

from pathlib import Path

import pytest
from omegaconf import DictConfig

from projects.clockdistill.engine.config_file import load_config
from tests.tiny_run import DISTILLED, PLAIN, tiny_overrides


@pytest.fixture
def plain(tmp_path: Path) -> DictConfig:
    return load_config(PLAIN, tiny_overrides(tmp_path))


@pytest.fixture
def distill(tmp_path: Path) -> DictConfig:
    return load_config(DISTILLED, tiny_overrides(tmp_path, DISTILLED))
