"""tools/reproduce.py: its commands, its refusals, and how it continues after an interruption."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import reproduce

from projects.clockdistill.engine.config_file import CONFIGS, ROOT
from reproduction.tables import SHIPPED, TABLES

# tools/reproduce.py as a process, with the substitute for the tools that it calls
PROGRAM = """
import signal, sys
from pathlib import Path

from projects.clockdistill.engine import jobs

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
jobs.TOOLS = Path(sys.argv.pop(1))
import reproduce

reproduce.main()
"""


@pytest.fixture
def command(tmp_path: Path, small_data: tuple[str, ...]) -> list[str]:
    """A short table 5 with folders of its own."""
    folders = ["--output", str(tmp_path / "out"), "--results", str(tmp_path / "results")]
    return ["--table", "5", "--scale", "mini", *folders, *small_data]


@pytest.fixture
def start(tools, command: list[str]) -> Callable[..., subprocess.Popen]:
    """Starts the command with more options."""

    def start(*options: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tools.folder), *command, *options],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tools")])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


@pytest.fixture
def run(start) -> Callable[..., tuple[int, str]]:
    """Runs the command with more options; returns its exit code and what it printed."""

    def run(*options: str) -> tuple[int, str]:
        process = start(*options)
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    return run


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for_pid(file: Path) -> int:
    wait_until(lambda: file.exists() and file.read_text() != "", seconds=120)
    return int(file.read_text())


@pytest.fixture
def hanging(tools, start) -> Iterator[Callable[..., tuple[subprocess.Popen, int]]]:
    """Starts a reproduction whose third run has trained a little and goes on for minutes."""
    started = []

    def hang(*options: str) -> tuple[subprocess.Popen, int]:
        tools.behave(memory_mask="hang")
        process = start("--seeds", "0", *options)
        started.append((process, wait_for_pid(tools.folder / "child.txt")))
        return started[-1]

    yield hang
    for process, child in started:
        process.kill()
        if alive(child):
            os.killpg(os.getpgid(child), signal.SIGKILL)


@pytest.mark.parametrize(
    ("name", "scale"), [(name, scale) for name in TABLES for scale in TABLES[name].scales]
)
def test_a_dry_run_prints_commands_of_existing_configs(name, scale, tmp_path, capsys):
    arguments = ["--table", name, "--scale", scale, "--output", str(tmp_path), "--dry-run"]
    arguments += ["--seeds", "0"]
    reproduce.main(arguments)
    lines = capsys.readouterr().out.splitlines()
    configs = set()
    for line in lines:
        words = line.split()
        config = ROOT / words[words.index("--config-file") + 1]
        assert config.is_file()
        if words[1].endswith("train_net.py"):
            configs.add(str(config.relative_to(CONFIGS)))
    rows = TABLES[name].rows_at(scale)
    assert configs == {
        files[scale] for row in rows for files in (row.configs, row.teachers) if files
    } - (SHIPPED.keys() if name in ("5", "6") else set())
    assert any("analyze_model.py" in line for line in lines)
    assert not list(tmp_path.iterdir())


def rows_of(tmp_path: Path) -> list[dict]:
    return json.loads((tmp_path / "results/table5_mini.json").read_text())["rows"]


def test_a_table_is_run_once_and_can_be_rendered_again(tools, run, command, tmp_path):
    tools.behave(**{"baselines/": 40.0, "memory_mask": 48.0, "mini/dino_r18": 52.0})
    code, output = run("--jobs", "2", "--seeds", "0", "1")
    assert code == 0, output
    assert len(tools.calls()) == 8
    assert [row["ap_mean"] for row in rows_of(tmp_path)] == [40.5, 50.5, 48.5, 52.5]
    page = tmp_path / "results/table5_mini.md"
    page.unlink()
    code, output = run("--jobs", "2", "--seeds", "0", "1")
    assert code == 0, output
    assert tools.calls() == []
    written = page.read_text()
    page.unlink()
    reproduce.main([*command, "--render"])
    assert page.read_text() == written


def test_only_the_named_rows_run_and_a_failure_stops_no_other(tools, run, tmp_path):
    tools.behave(memory_mask="fail")
    only = ["--only", "baseline", "memory_mask", "clockdistill"]
    code, output = run("--seeds", "0", *only)
    assert code == 1
    assert "memory_mask, seed 0 FAILED" in output and "1 of 3 runs failed" in output
    assert [row["status"] for row in rows_of(tmp_path)] == ["ok", "not run", "failed", "ok"]


def test_a_table_keeps_its_results(tools, command, tmp_path):
    reproduce.main([*command, "--seeds", "0", "1"])
    before = rows_of(tmp_path)
    tools.calls()
    reproduce.main([*command, "--seeds", "0", "--only", "memory"])
    assert tools.calls() == [] and rows_of(tmp_path) == before
    elsewhere = [*command, "--output", str(tmp_path / "other")]
    with pytest.raises(SystemExit, match=r"neither in .* memory \(seed 0 1\), .* --results"):
        reproduce.main([*elsewhere, "--only", "baseline"])
    assert tools.calls() == [] and rows_of(tmp_path) == before
    reproduce.main([*elsewhere, "--seeds", "0", "1"])
    assert len(tools.calls()) == 8 and rows_of(tmp_path) == before


def test_a_table_is_continued_without_the_folders_of_its_runs(tools, command, tmp_path):
    reproduce.main([*command, "--seeds", "0"])
    before = rows_of(tmp_path)
    tools.calls()
    elsewhere = [*command, "--output", str(tmp_path / "other"), "--add", "--seeds", "1"]
    reproduce.main([*elsewhere, "--only", "baseline"])
    (call,) = tools.calls()
    assert "baselines/" in call and "train.seed=1" in call
    assert rows_of(tmp_path)[0]["ap"] == [50.0, 51.0]
    assert [row["ap"] for row in rows_of(tmp_path)[1:]] == [row["ap"] for row in before[1:]]
    third = [*command, "--output", str(tmp_path / "third"), "--add", "--only", "memory"]
    with pytest.raises(SystemExit, match="neither in .* baseline "):  # records of other runs
        reproduce.main(["train.max_iter=7", *third])
    assert tools.calls() == []


def test_a_table_keeps_its_results_where_a_run_fails(tools, command, tmp_path):
    reproduce.main([*command, "--seeds", "0"])
    before = rows_of(tmp_path)
    tools.behave(memory_mask="fail")
    elsewhere = [*command, "--output", str(tmp_path / "other"), "--seeds", "0"]
    with pytest.raises(SystemExit, match=r"stays as it is: .* memory_mask \(seed 0\)\."):
        reproduce.main(elsewhere)
    assert rows_of(tmp_path) == before


def test_records_of_finished_runs_are_used_and_kept(tools, command, tmp_path):
    reproduce.main([*command, "--seeds", "0"])
    kept = (tmp_path / "results/runs_mini.json").read_text()
    elsewhere = [*command, "--output", str(tmp_path / "other")]
    # runs of other settings in the same folders: one finishes, one fails
    tries = ["train.max_iter=7", *elsewhere, "--only", "memory_mask", "--results"]
    reproduce.main([*tries, str(tmp_path / "finished"), "--seeds", "5"])
    tools.behave(memory_mask="fail")
    with pytest.raises(SystemExit, match="1 of 1 runs failed"):
        reproduce.main([*tries, str(tmp_path / "failed"), "--seeds", "0"])
    tools.calls()
    reproduce.main([*elsewhere, "--seeds", "0", "--add"])
    assert tools.calls() == []
    assert (tmp_path / "results/runs_mini.json").read_text() == kept


def test_a_table_is_written_after_each_run(hanging, tmp_path):
    hanging()
    wait_until((tmp_path / "results/table5_mini.json").is_file)
    expected = ["ok", "ok", "not run", "not run"]
    wait_until(lambda: [row["status"] for row in rows_of(tmp_path)] == expected)


def test_a_table_is_not_replaced_by_a_part_of_it(tools, command, hanging, tmp_path):
    reproduce.main([*command, "--seeds", "0"])
    before = rows_of(tmp_path)
    hanging("--output", str(tmp_path / "other"))
    record = tmp_path / "other/mini/ablations/memory_dino_r18_synthkitti/seed0/run.json"
    wait_until(lambda: json.loads(record.read_text())["status"] == "ok")
    assert rows_of(tmp_path) == before


def test_teachers_train_again_only_for_students_that_wait(tools, command, tmp_path):
    command = [*command, "--teacher", "train", "--seeds", "0"]
    reproduce.main(command)
    assert len(tools.calls()) == 5
    for file in (tmp_path / "out").rglob("model_final.pth"):
        file.unlink()
    reproduce.main(command)
    assert tools.calls() == []
    reproduce.main([*command, "1"])
    assert [call for call in tools.calls() if "teachers/" in call.split()[1]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_ends_its_runs_and_then_resumes_them(tools, run, hanging, tmp_path, number):
    process, child = hanging()
    code, output = run("--seeds", "0")
    assert code == 1 and "another tools/reproduce.py works in" in output
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert not alive(child)
    tools.calls()
    tools.behave(memory_mask=48.0)
    code, output = run("--seeds", "0")
    assert code == 0, output
    first, second = tools.calls()
    assert "memory_mask" in first and "--resume" in first
    assert "mini/dino_r18" in second and "--resume" not in second
    assert rows_of(tmp_path)[2]["ap"] == [48.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.max_iter=20"], "Fix: name other folders with --output and --results"),
        (["--output", "x", "train.max_iter=20"], "Fix: name other folders"),
        (["--teacher", "train"], "--teacher train makes another experiment"),
        (["--only", "clockdestill"], "--only clockdestill: there is no such row at --scale mini"),
        (["--seeds", "1", "1"], "seeds must differ"),
        (["--table", "3"], "no rows at --scale mini: there is no small COCO. Fix: --scale full"),
        (["--scale", "mid"], "--table 4 has no rows at --scale mid. Fix: --scale full or mini or"),
        (["--output", "x", "--results", "y", "train.max_itr=20"], "unknown config key"),
        (["--results", "x", "--render"], "there is no such file. Fix: run the table without"),
    ],
)
def test_user_errors_are_refused(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        reproduce.main(["--table", "4", "--scale", "mini", *arguments])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_rows_of_table_4_with_real_tools(tmp_path: Path, small_data: tuple[str, ...]) -> None:
    results = tmp_path / "results"
    finished = subprocess.run(
        [
            *(sys.executable, reproduce.__file__, "--table", "4", "--scale", "mini"),
            *("--only", "baseline", "kd_detr", "--seeds", "0", "--jobs", "2"),
            *("--output", str(tmp_path / "out"), "--results", str(results)),
            *("train.max_iter=5", "train.teacher_check_images=0", *small_data),
        ],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    content = json.loads((results / "table4_mini.json").read_text())
    rows = {row["row"]: row for row in content["rows"]}
    for name in ("baseline", "kd_detr"):
        row = rows[name]
        assert row["status"] == "ok" and len(row["ap"]) == 1
        assert row["steps"] == 5 and row["train_seconds"] > 0
        assert 0.5e6 < row["parameters"] < 0.8e6 and row["flops"] > 1e8 and row["fps"] > 0
    assert rows["kd_detr"]["gain_ci95"] is None  # one seed
    assert rows["clockdistill"]["status"] == "not run"
