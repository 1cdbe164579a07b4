"""Runs of `tools/train_net.py` as programs of their own, several at a time."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from projects.clockdistill.engine import metrics_file, run_folder
from projects.clockdistill.engine.config_file import CONFIGS, ROOT

TOOLS = ROOT / "tools"
PROGRESS_EVERY = 60  # seconds
PATIENCE = 10  # seconds between SIGTERM and SIGKILL


@dataclass(frozen=True)
class Run:
    """One call of `tools/train_net.py`.

    Attributes:
        title: its name in messages.
        config: config file below `configs/`.
        folder: its output folder. What it prints goes to `console.txt` there.
        overrides: key=value of the config.
        options: options of the program. Without `--resume` a run starts in an empty folder.
    """

    title: str
    config: str
    folder: Path
    overrides: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        output = f"train.output_dir={self.folder}"
        return tool_command("train_net", self.config, *self.options, *self.overrides, output)

    @property
    def console(self) -> Path:
        return self.folder / "console.txt"

    def start(self, threads: int) -> subprocess.Popen:
        """Starts the program with `threads` CPU threads, in a process group of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        run_folder.lock(self.folder).close()  # refuses a folder that another run uses
        if "--resume" not in self.options:
            shutil.rmtree(self.folder)
            self.folder.mkdir()
        with self.console.open("a") as console:
            return subprocess.Popen(
                self.command,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": str(threads)},
                start_new_session=True,
            )

    def last_lines(self) -> str:
        """Returns the end of what it printed."""
        return "\n".join(self.console.read_text(errors="replace").splitlines()[-15:])

    def metrics(self) -> dict[str, float]:
        """Returns the COCO metrics of its last evaluation, in percent."""
        return json.loads((self.folder / "results.json").read_text())["bbox"]

    def logged(self) -> list[dict[str, Any]]:
        """Returns the lines of its `metrics.json`, without those that an interruption cut off."""
        return metrics_file.read(self.folder / "metrics.json")

    def progress(self) -> str:
        """Returns its title and the last training step that it logged."""
        lines = self.logged()
        return f"{self.title} at step {lines[-1]['iteration'] + 1:,}" if lines else self.title


def tool_command(tool: str, config: str, *arguments: str) -> tuple[str, ...]:
    """Returns the command that calls `tools/<tool>.py` with a config file below `configs/`."""
    script = str(TOOLS / f"{tool}.py")
    return (sys.executable, script, "--config-file", str(CONFIGS / config), *arguments)


def shown(command: Sequence[str]) -> str:
    """Returns a command as a user types it in the current folder."""
    here = f"{Path.cwd()}/"
    words = ["python" if word == sys.executable else word.replace(here, "") for word in command]
    return shlex.join(words)


def run_together(
    runs: Sequence[Run],
    ended: Callable[[Run, int], None],
    *,
    started: Callable[[Run], None] = lambda run: None,
    at_once: int | None = None,
) -> None:
    """Carries out all runs. Whatever ends this function early ends the runs too.

    Each run has `OMP_NUM_THREADS` threads where that is set, else its share of the cores.

    Args:
        runs: in the order to start them.
        ended: called with each run and its exit code. What it raises ends the other runs.
        started: called with each run once it has started. There is one call of `ended` or
            `started` at a time.
        at_once: number of runs at a time; all by default.
    """
    if not runs:
        return
    at_once = min(at_once or len(runs), len(runs))
    threads = int(os.environ.get("OMP_NUM_THREADS") or 0) or max(1, cpu_count() // at_once)
    running: dict[Run, subprocess.Popen] = {}
    calling = threading.Lock()
    stopped = threading.Event()

    def carry_out(run: Run) -> int:
        with calling:
            if stopped.is_set():
                raise CancelledError
            print(f"  {run.title}: {run.console}", flush=True)
            running[run] = run.start(threads)
            started(run)
        code = running[run].wait()
        del running[run]
        return code

    pool = ThreadPoolExecutor(at_once)
    pending = {pool.submit(carry_out, run): run for run in runs}
    try:
        while pending:
            done, _ = wait(pending, PROGRESS_EVERY, FIRST_COMPLETED)
            for future in done:
                with calling:
                    ended(pending.pop(future), future.result())
            if not done:
                print("  " + ", ".join(run.progress() for run in list(running)), flush=True)
    finally:
        stopped.set()
        with calling:  # no run is between the check and its entry in `running`
            stop(list(running.values()))
        pool.shutdown(cancel_futures=True)


def stop(processes: Iterable[subprocess.Popen]) -> None:
    """Ends process groups: SIGTERM first, SIGKILL after `PATIENCE`."""
    for process in processes:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: subprocess.Popen, number: int) -> None:
    with suppress(ProcessLookupError):  # it has already ended
        os.killpg(process.pid, number)


def cpu_count() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def exit_on_signals() -> None:
    """Makes SIGTERM and SIGHUP raise `SystemExit`, so that `finally` blocks run.

    A signal that is ignored, as under nohup, stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
