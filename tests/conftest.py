"""What every test starts from: one torch thread, one seed and the loggers as they were."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # tests run in several processes


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_remembered_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Datasets that passed their check are remembered for the test alone."""
    folder = tmp_path / "passed_checks"
    monkeypatch.setattr("projects.clockdistill.data.passed_checks.folder", lambda: folder)


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    """A run gives these loggers handlers and cuts them off from pytest's; this undoes it."""
    names = ("detectron2", "fvcore", "projects.clockdistill")
    loggers = [logging.getLogger(name) for name in names]
    kept = [(logger.handlers[:], logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, propagate) in zip(loggers, kept, strict=True):
        logger.handlers[:] = handlers
        logger.propagate = propagate
