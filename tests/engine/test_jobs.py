"""Several runs at a time: how many, with how many threads, and how they end."""

import json
import os
import signal
import sys
import time

import pytest

from projects.clockdistill.engine import jobs
from projects.clockdistill.engine.jobs import Run, cpu_count, exit_on_signals, run_together


class Program(Run):
    """A run of Python code, which stands in place of its config."""

    @property
    def command(self):
        return (sys.executable, "-c", self.config)


@pytest.fixture
def program(tmp_path):
    return lambda title, code, *options: Program(title, code, tmp_path / title, (), options)


def ignore(run, code):
    pass


def gone(pid):
    """Whether a process has ended, whether or not its parent has noticed."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_run_ends_with_its_code_and_a_failure_stops_no_other(program):
    runs = [program(f"r{code}", f"print('hi'); raise SystemExit({code})") for code in (3, 0)]
    started, ended = [], []
    run_together(runs, lambda run, code: ended.append((run.title, code)), started=started.append)
    assert started == runs
    assert sorted(ended) == [("r0", 0), ("r3", 3)]
    assert runs[0].last_lines() == "hi"


def test_no_more_than_asked_for_run_at_once_and_share_the_cores(program, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = (
        "import os, pathlib, time\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "mark = folder / f'{os.getpid()}.running'; mark.touch(); time.sleep(0.2)\n"
        "print(len(list(folder.glob('*.running'))), os.environ['OMP_NUM_THREADS']); mark.unlink()"
    )
    runs = [program(str(index), code) for index in range(4)]
    run_together(runs, ignore, at_once=2)
    found = [run.last_lines().split() for run in runs]
    assert all(int(running) <= 2 for running, _ in found)
    assert {threads for _, threads in found} == {str(max(1, cpu_count() // 2))}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    run_together(runs[:1], ignore)
    assert runs[0].last_lines().split()[1] == "5"


def test_a_run_starts_in_an_empty_folder_unless_it_resumes(program):
    run = program("run", "print('hi')")
    run.folder.mkdir()
    (run.folder / "metrics.json").write_text(json.dumps({"iteration": 19}) + '\n{"iterat')
    assert run.progress() == "run at step 20"
    run_together([program("run", "print('hi')", "--resume")], ignore)
    assert run.progress() == "run at step 20"
    run_together([run], ignore)
    assert run.progress() == "run"


@pytest.mark.parametrize("stubborn", [False, True])
def test_an_error_ends_the_other_runs_and_what_they_started(
    program, tmp_path, monkeypatch, stubborn
):
    monkeypatch.setattr(jobs, "PATIENCE", 0.5 if stubborn else 10)
    file = tmp_path / "pid"
    code = (
        "import os, signal, subprocess, sys, time\n"
        f"if {stubborn}: signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '300'])\n"
        f"open({str(file)!r}, 'w').write(str(child.pid)); time.sleep(300)"
    )
    waits = f"import os, time\nwhile not os.path.exists({str(file)!r}): time.sleep(0.01)"
    later = program("later", "pass")

    def ended(run, code):
        wait_for(file.read_text)
        raise RuntimeError(run.title)

    with pytest.raises(RuntimeError, match="short"):
        run_together([program("long", code), program("short", waits), later], ended, at_once=2)
    wait_for(lambda: gone(int(file.read_text())))
    assert not later.folder.exists() or later.last_lines() == ""


def test_signals_exit_unless_they_are_ignored():
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        exit_on_signals()
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(SystemExit) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
        assert caught.value.code == 128 + signal.SIGTERM
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
