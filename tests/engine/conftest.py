"""What several tests of the engine start from."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What our loggers say, whether or not a run has given them handlers before."""
    logger = logging.getLogger("projects.clockdistill")
    propagate, logger.propagate = logger.propagate, True
    caplog.set_level(logging.INFO, logger.name)
    yield caplog
    logger.propagate = propagate
