"""Runs programs side by side, the CPU's cores shared among them."""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from projects.clockdistill.engine.progress import steps_done

POLL_EVERY = 0.5  # seconds
PROGRESS_EVERY = 60  # seconds
PATIENCE = 10  # seconds from asking a program to end until it is made to


@dataclass(frozen=True)
class Job:
    """One program to run.

    Attributes:
        title: how messages call it.
        command: what to run.
        folder: its output folder; what it prints goes to console.txt there.
    """

    title: str
    command: tuple[str, ...]
    folder: Path

    @property
    def console(self) -> Path:
        return self.folder / "console.txt"

    def start(self, threads: int, inherited: Sequence[int]) -> subprocess.Popen:
        """Starts it with so many CPU threads, in a process group of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.console.open("a") as console:
            return subprocess.Popen(
                self.command,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": str(threads)},
                start_new_session=True,
                pass_fds=inherited,
            )

    def progress(self) -> str:
        """How far it is, as far as it has written it down."""
        steps = steps_done(self.folder)
        return f"{self.title} at step {steps:,}" if steps else self.title

    def last_lines(self) -> str:
        """The end of what it printed."""
        return "\n".join(self.console.read_text(errors="replace").splitlines()[-15:])


def run_together(
    jobs: Sequence[Job],
    starting: Callable[[Job], None],
    ended: Callable[[Job, int], None],
    *,
    at_once: int | None = None,
    threads: int | None = None,
    inherited: Sequence[int] = (),
) -> None:
    """Runs all jobs; whatever ends this function early ends the jobs too.

    Args:
        jobs: in the order to start them.
        starting: called with a job right before it starts.
        ended: called with a job and its exit code, once each; what it raises ends the others.
        at_once: how many run at a time; all by default.
        threads: CPU threads of each; by default those of OMP_NUM_THREADS, where it is not set the
            cores are shared among those at a time.
        inherited: file descriptors that the programs keep open as long as they live.
    """
    if not jobs:
        return
    at_once = min(at_once or len(jobs), len(jobs))
    asked = int(os.environ.get("OMP_NUM_THREADS") or 0)
    threads = threads or asked or max(1, cpu_count() // at_once)
    waiting = deque(jobs)
    running: dict[Job, subprocess.Popen] = {}
    shown = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.popleft()
                starting(job)
                print(f"  {job.title}: {job.console}", flush=True)
                running[job] = job.start(threads, inherited)
            codes = {job: process.poll() for job, process in running.items()}
            over = {job: code for job, code in codes.items() if code is not None}
            for job, code in over.items():
                del running[job]
                ended(job, code)
            if not over:
                time.sleep(POLL_EVERY)
            if time.monotonic() - shown > PROGRESS_EVERY:
                shown = time.monotonic()
                print("  " + ", ".join(job.progress() for job in running), flush=True)
    finally:
        stop(running.values())


def stop(processes: Iterable[subprocess.Popen]) -> None:
    """Ends programs and all that they started, first politely."""
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
    with suppress(ProcessLookupError):  # it has ended by itself
        os.killpg(process.pid, number)  # its group has its id: start_new_session


def cpu_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def exits_on_signals() -> Iterator[None]:
    """Within this context SIGTERM and SIGHUP raise SystemExit, so that what is open is closed.

    A signal that is ignored, as nohup has it, stays ignored.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    kept = {number: handler for number, handler in kept.items() if handler != signal.SIG_IGN}
    for number in kept:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
