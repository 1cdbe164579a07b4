"""tools/reproduce.py: its commands, its refusals, and that it survives being stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import reproduce

from projects.clockdistill.data import ensure_tree
from projects.clockdistill.engine.commands import CONFIGS, ROOT
from reproduction.tables import TABLES
from tests.reproduction.fake_tools import FakeTools

SMALL_DATA = (
    "dataloader.train.dataset.names=kitti_train",
    "dataloader.test.dataset.names=kitti_val",
)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of datasets in which KITTI is twenty drawn frames."""
    folder = tmp_path_factory.mktemp("datasets")
    ensure_tree(folder / "kitti", frames=20)
    return folder


@pytest.fixture
def command(tmp_path: Path, datasets: Path) -> list[str]:
    """A short table 5 with folders of its own."""
    folders = ["--output", str(tmp_path / "out"), "--results", str(tmp_path / "results")]
    return ["--table", "5", "--scale", "mini", *folders, *SMALL_DATA]


class Program:
    """tools/reproduce.py as a process, with a stand-in for the tools that it calls."""

    def __init__(self, tools: FakeTools, datasets: Path) -> None:
        code = (
            "import signal, sys; from pathlib import Path\n"
            # a shell ignores it for what it runs in the background
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from projects.clockdistill.engine import commands\n"
            "commands.TOOLS = Path(sys.argv.pop(1))\n"
            "import reproduce; reproduce.main()"
        )
        self._command = [sys.executable, "-c", code, str(tools.folder)]
        path = os.pathsep.join([str(ROOT), str(ROOT / "tools")])
        self._environment = os.environ | {
            "DETECTRON2_DATASETS": str(datasets),
            "PYTHONPATH": path,
        }

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*self._command, *arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=300)
        return process.returncode, output


@pytest.fixture
def tools(tmp_path: Path) -> FakeTools:
    folder = tmp_path / "tools"
    folder.mkdir()
    return FakeTools(folder)


@pytest.fixture
def program(tools: FakeTools, datasets: Path) -> Program:
    return Program(tools, datasets)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for_pid(file: Path) -> int:
    deadline = time.monotonic() + 120
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline, "the run did not start"
        time.sleep(0.05)
    return int(file.read_text())


@pytest.fixture
def hanging(tools: FakeTools, program: Program, command: list[str]) -> Iterator[tuple]:
    """A reproduction whose second run has trained a little and goes on for minutes."""
    tools.behave(memory_mask="hang")
    process = program.start(*command, "--seeds", "0")
    child = wait_for_pid(tools.folder / "child.txt")
    yield process, child
    process.kill()
    if alive(child):
        os.killpg(os.getpgid(child), signal.SIGKILL)


@pytest.mark.parametrize("scale", ["full", "mini"])
@pytest.mark.parametrize("number", TABLES)
def test_dry_runs_name_existing_configs_alone(number, scale, tmp_path, capsys):
    arguments = ["--table", str(number), "--scale", scale, "--output", str(tmp_path), "--dry-run"]
    if (number, scale) == (3, "mini"):
        with pytest.raises(SystemExit, match="table 3 has no rows at --scale mini"):
            reproduce.main([*arguments, "--seeds", "0"])
        return
    reproduce.main([*arguments, "--seeds", "0"])
    lines = capsys.readouterr().out.splitlines()
    trained = [line for line in lines if "train_net.py" in line]
    # a row has its run, and there is a teacher that no row shows
    assert len(trained) >= len(TABLES[number].rows_at(scale))
    assert any("analyze_model.py" in line for line in lines)
    for line in lines:
        words = line.split()
        config = Path(words[words.index("--config-file") + 1])
        assert (ROOT / config).is_file() and CONFIGS in (ROOT / config).parents
        assert ("mini" in config.parts) == (scale == "mini")
    assert not list(tmp_path.iterdir())


def test_a_table_is_run_once_and_written_each_time(tools, program, command, tmp_path):
    tools.behave(**{"baselines/": 40.0, "memory_mask": 48.0, "clockdistill": 52.0})
    code, output = program.run(*command, "--jobs", "2", "--seeds", "0", "1")
    assert code == 0, output
    assert len(tools.calls()) == 8
    page = (tmp_path / "results/table5_mini.md").read_text()
    assert "+12.0 [+11.0, +13.0]" in page and "| clockdistill |" in output
    code, output = program.run(*command, "--seeds", "0", "1")
    assert code == 0, output
    assert tools.calls() == []
    content = json.loads((tmp_path / "results/table5_mini.json").read_text())
    assert [row["ap_mean"] for row in content["rows"]] == [40.5, 50.5, 48.5, 52.5]
    assert content["overrides"] == list(SMALL_DATA)


def test_rows_that_are_not_asked_for_are_not_run(tools, program, command, tmp_path):
    code, output = program.run(*command, "--seeds", "0", "--only", "memory")
    assert code == 0, output
    (call,) = tools.calls()
    assert "ablations/memory_dino" in call
    content = json.loads((tmp_path / "results/table5_mini.json").read_text())
    assert [row["status"] for row in content["rows"]] == ["not run", "ok", "not run", "not run"]


def test_a_failed_run_stops_no_other(tools, program, command, tmp_path):
    tools.behave(memory_mask="fail")
    code, output = program.run(*command, "--seeds", "0")
    assert code == 1
    assert "memory_mask, seed 0 FAILED" in output and "1 of 4 runs failed" in output
    content = json.loads((tmp_path / "results/table5_mini.json").read_text())
    assert [row["status"] for row in content["rows"]] == ["ok", "ok", "failed", "ok"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_ends_its_runs_and_goes_on_where_it_was(
    tools, program, command, hanging, tmp_path, number
):
    process, child = hanging
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert not alive(child)
    tools.calls()
    tools.behave(memory_mask=48.0)
    code, output = program.run(*command, "--seeds", "0")
    assert code == 0, output
    first, second = tools.calls()
    assert "memory_mask" in first and "--resume" in first
    assert "clockdistill" in second and "--resume" not in second
    content = json.loads((tmp_path / "results/table5_mini.json").read_text())
    assert content["rows"][2]["ap"] == [48.0]


def test_killed_it_is_not_joined_by_another_while_its_runs_live(tools, program, command, hanging):
    process, child = hanging
    process.kill()
    process.communicate(timeout=60)
    assert alive(child)
    code, output = program.run(*command, "--seeds", "0")
    assert code == 1
    assert "is at work in" in output
    os.killpg(os.getpgid(child), signal.SIGKILL)
    tools.behave()
    tools.calls()
    code, output = program.run(*command, "--seeds", "0")
    assert code == 0, output
    assert "--resume" in tools.calls()[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.max_iter=20"], "name folders for it with --output and --results"),
        (["--output", "x", "train.max_iter=20"], "name folders for it with --output and --results"),
        (["--only", "clockdestill"], "--only clockdestill: table 4 has at scale mini the rows"),
        (["--jobs", "0"], "--jobs and --num-gpus must be at least 1"),
        (["--seeds", "1", "1"], "must be different"),
        (["--output", "x", "--results", "y", "train.max_itr=20"], "unknown config key"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        reproduce.main(["--table", "4", "--scale", "mini", *arguments])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_rows_of_table_4_for_real(tmp_path: Path, datasets: Path) -> None:
    results = tmp_path / "results"
    finished = subprocess.run(
        [
            *(sys.executable, reproduce.__file__, "--table", "4", "--scale", "mini"),
            *("--only", "baseline", "kd_detr", "--seeds", "0", "--jobs", "2"),
            *("--output", str(tmp_path / "out"), "--results", str(results)),
            *("train.max_iter=5", "train.teacher_check_images=0", *SMALL_DATA),
        ],
        env=os.environ | {"DETECTRON2_DATASETS": str(datasets)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    rows = {
        row["row"]: row for row in json.loads((results / "table4_mini.json").read_text())["rows"]
    }
    for name in ("baseline", "kd_detr"):
        row = rows[name]
        assert row["status"] == "ok" and len(row["ap"]) == 1
        assert row["steps"] == 5 and row["train_seconds"] > 0
        assert 0.5e6 < row["parameters"] < 0.8e6 and row["flops"] > 1e8 and row["fps"] > 0
    assert rows["kd_detr"]["gain_ci95"] is None  # one seed
    assert rows["clockdistill"]["status"] == "not run"
    assert list(tmp_path.glob("out/mini/**/seed0/resampled_ap_*.npy"))
