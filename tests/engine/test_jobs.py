"""Programs side by side: how many, with what, and how they end."""

import os
import signal
import sys
import time

import pytest

from projects.clockdistill.engine import jobs as processes
from projects.clockdistill.engine.jobs import (
    Job,
    cpu_count,
    exits_on_signals,
    run_together,
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(processes, "POLL_EVERY", 0.02)


def python(tmp_path, title, code):
    return Job(title, (sys.executable, "-c", code), tmp_path / title)


def gone(pid):
    """Whether a process has ended (or ended and nobody has asked how)."""
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


def test_each_job_is_told_of_once_with_its_code_and_one_failure_stops_none(tmp_path):
    jobs = [
        python(tmp_path, f"j{code}", f"print('hi'); raise SystemExit({code})") for code in (3, 0)
    ]
    started, ended = [], []
    run_together(jobs, started.append, lambda job, code: ended.append((job.title, code)))
    assert started == jobs
    assert sorted(ended) == [("j0", 0), ("j3", 3)]
    assert jobs[0].last_lines() == "hi"


def test_no_more_than_asked_for_run_at_once_and_share_the_cores(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = "import os, time; time.sleep(0.2); print(os.environ['OMP_NUM_THREADS'])"
    jobs = [python(tmp_path, str(index), code) for index in range(4)]
    running, most = set(), []

    def starting(job):
        running.add(job)
        most.append(len(running))

    run_together(jobs, starting, lambda job, code: running.remove(job), at_once=2)
    assert max(most) == 2 and len(most) == 4
    assert {job.last_lines() for job in jobs} == {str(max(1, cpu_count() // 2))}


def test_threads_can_be_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    code = "import os; print(os.environ['OMP_NUM_THREADS'])"
    for name, threads, expected in (("environment", None, "5"), ("argument", 7, "7")):
        job = python(tmp_path, name, code)
        run_together([job], lambda job: None, lambda job, code: None, threads=threads)
        assert job.last_lines() == expected


def test_an_error_on_the_way_ends_the_others_and_what_they_started(tmp_path):
    pid = tmp_path / "pid"
    code = (
        "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '300'])\n"
        f"open({str(pid)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(300)"
    )
    waits = f"import os, time\nwhile not os.path.exists({str(pid)!r}): time.sleep(0.01)"
    jobs = [python(tmp_path, "long", code), python(tmp_path, "short", waits)]

    def ended(job, code):
        wait_for(pid.read_text)
        raise RuntimeError(job.title)

    with pytest.raises(RuntimeError, match="short"):
        run_together(jobs, lambda job: None, ended)
    wait_for(lambda: gone(int(pid.read_text())))


def test_a_program_that_will_not_end_is_made_to(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0.3)
    ready = tmp_path / "ready"
    stubborn = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(ready)!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(300)"
    )
    waits = f"import os, time\nwhile not os.path.exists({str(ready)!r}): time.sleep(0.01)"

    def ended(job, code):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run_together(
            [python(tmp_path, "a", stubborn), python(tmp_path, "b", waits)],
            lambda job: None,
            ended,
        )
    assert gone(int(ready.read_text()))


def test_a_signal_becomes_an_exit_inside_and_is_as_before_outside():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught, exits_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with exits_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
