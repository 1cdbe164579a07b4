"""A substitute for the tools, a small dataset, and plans that use both."""

from collections.abc import Callable
from pathlib import Path

import pytest

from projects.clockdistill.data import ensure_tree
from projects.clockdistill.engine import jobs
from reproduction.plan import Plan
from reproduction.tables import TABLES
from tests.reproduction.fake_tools import FakeTools


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTools:
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setattr(jobs, "TOOLS", folder)
    return FakeTools(folder)


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of datasets in which KITTI is twenty drawn frames."""
    folder = tmp_path_factory.mktemp("datasets")
    ensure_tree(folder / "kitti", frames=20)
    return folder


@pytest.fixture
def small_data(datasets: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Overrides that make all runs use it."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))
    return (
        "dataloader.train.dataset.names=kitti_train",
        "dataloader.test.dataset.names=kitti_val",
    )


@pytest.fixture
def plan_of(tmp_path: Path, small_data: tuple[str, ...]) -> Callable[..., Plan]:
    """Makes the plan of a table at scale mini; keywords are attributes of `Plan`."""

    def make(table: str, **options: object) -> Plan:
        defaults = {
            "scale": "mini",
            "seeds": (0, 1),
            "teacher": "shipped",
            "output": tmp_path / "out",
            "overrides": small_data,
        }
        return Plan(TABLES[table], **{**defaults, **options})

    return make
