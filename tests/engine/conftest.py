"""Fixtures of the engine's tests."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Captures the project's log, whether or not a run has given its loggers handlers before."""
    logger = logging.getLogger("projects.clockdistill")
    propagate, logger.propagate = logger.propagate, True
    caplog.set_level(logging.INFO, logger.name)
    yield caplog
    logger.propagate = propagate
