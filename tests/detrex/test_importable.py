"""The one line that a run without real detrex ends with."""

import importlib
from pathlib import Path

import pytest

from projects.clockdistill.configs.models.detrex import HOW_TO_INSTALL
from tests.detrex import conftest

pytestmark = pytest.mark.detrex


def test_real_detrex_is_here():
    try:
        importlib.import_module("detrex")
    except ImportError as error:
        pytest.skip(
            "NOT PROVEN HERE: that real detrex's detectors compute what ours do, are distilled "
            f"alike and exchange checkpoints with ours ({error}); {HOW_TO_INSTALL}"
        )


def test_every_other_test_waits_for_it():
    others = {path.name for path in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).name}
    assert set(getattr(conftest, "collect_ignore", others)) == others
