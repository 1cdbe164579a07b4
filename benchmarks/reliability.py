"""Interrupts tiny training runs in every way and compares them with an undisturbed one.

    python benchmarks/reliability.py --moments 100 --json benchmarks/results/reliability.json
    python benchmarks/reliability.py --only long

The run distils a tiny DINO student for 12 steps with 2 data workers, the moving average and
bfloat16, evaluates every 4 and saves every 3 steps. After SIGKILL at a random moment it is resumed,
and must end with the same bits: weights, average, optimizer, generators, metrics.json, results.
"""

import argparse
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# as a script it has only benchmarks/ on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.report import environment, write_json
from benchmarks.tiny_runs import PHASES, STEPS, ForkedRun, Moment, moments, prepare, student
from projects.clockdistill.engine import metrics_file
from projects.clockdistill.engine.last_checkpoint import is_whole, newest_whole
from projects.clockdistill.engine.trainer import Trainer

Result = dict[str, Any]
STRAIGHT = "straight"
LONG_STEPS = 2_000
MEASURED_FROM = 200
_CLOCKS = ("time", "data_time", "eta_seconds")


def start(root: Path, name: str, *more: str, **kwargs: Any) -> ForkedRun:
    """Starts the run in a folder of its own."""
    log = root / f"{name.replace('/', '_')}.txt"
    return ForkedRun(student(root, name, *more), log, **kwargs)


# ------------------------------------------------------------------ comparison


def differences(one: Path, other: Path) -> list[str]:
    """Returns what differs, bit by bit, between two finished runs; nothing if they are equal."""
    found = []
    for name in ("model_final.pth", "model_best.pth"):
        contents = [torch.load(folder / name, weights_only=True) for folder in (one, other)]
        found += [f"{name}: {path}" for path in _differing(*contents) if not _is_clock(path)]
    for name in ("results.json", "model_best.json"):
        if (one / name).read_text() != (other / name).read_text():
            found.append(name)
    if _logged(one) != _logged(other):
        found.append("metrics.json")
    return found


def _is_clock(path: str) -> bool:
    return any(f"/metrics/{name}/" in path for name in _CLOCKS)


def _differing(one: Any, other: Any, path: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from _differing(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            yield path
        for index, pair in enumerate(zip(one, other, strict=False)):
            yield from _differing(*pair, f"{path}/{index}")
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.dtype != other.dtype or not torch.equal(one, other):
            yield path
    elif one != other:
        yield path


def _logged(folder: Path) -> list[dict[str, float]]:
    return [
        {name: value for name, value in line.items() if name not in _CLOCKS}
        for line in metrics_file.read(folder / "metrics.json")
        if line["iteration"] % 2 == 1  # a run that a signal ends logs once more in between
    ]


# ------------------------------------------------------------------ parts


def interrupt(root: Path, number: int, case: tuple[int, Moment]) -> Result:
    """Ends a run by a signal at a moment, resumes it and compares it."""
    index, moment = case
    name = f"{signal.Signals(number).name.lower()}_{index:03d}"
    run = start(root, name)
    run.wait(moment.reached(run))
    phase = run.phase()
    run.signal(number)
    code = run.wait()
    before = newest_whole(root / name) if (root / name).is_dir() else ""
    resumed = start(root, name, "--resume")
    ended = resumed.wait()
    found = differences(root / STRAIGHT, root / name) if ended == 0 else [resumed.console()[-2000:]]
    result = {
        "phase": phase,
        "seconds": round(moment.seconds, 4),
        "exit_code": code,
        "resumed_from": Path(before).stem,
        "differences": found,
    }
    if not found:
        _remove(root / name)
    return result


def campaign(root: Path, number: int, count: int, jobs: int, seed: int) -> list[Result]:
    """Interrupts runs at random moments."""
    straight = json.loads((root / "straight.json").read_text())
    cases = list(enumerate(moments(count, straight["seconds"], straight["entries"], seed)))
    with ProcessPoolExecutor(jobs, get_context("fork")) as pool:
        return list(pool.map(partial(interrupt, root, number), cases))


def kill_part(root: Path, count: int, jobs: int) -> Result:
    """SIGKILL at random moments."""
    results = campaign(root, signal.SIGKILL, count, jobs, seed=1)
    return {
        "moments": len(results),
        "identical": sum(not result["differences"] for result in results),
        "phases": dict(Counter(r["phase"] if r["exit_code"] else "ended" for r in results)),
        "resumed_from": dict(Counter(r["resumed_from"] or "start" for r in results)),
        "failed": [result for result in results if result["differences"]],
    }


def signal_part(root: Path, count: int, jobs: int) -> Result:
    """SIGTERM and SIGINT at random moments: saved, exit code, and the same bits after a resume."""
    part: Result = {}
    for number in (signal.SIGTERM, signal.SIGINT):
        results = campaign(root, number, max(1, count // 10), jobs, seed=2)
        # -number: before the training began, when there is nothing to save
        expected = {0, 128 + number, -number}
        bad = [r for r in results if r["differences"] or r["exit_code"] not in expected]
        part[number.name] = {
            "moments": len(results),
            "exit_codes": dict(Counter(str(result["exit_code"]) for result in results)),
            "identical": len(results) - len(bad),
            "failed": bad,
        }
    return part


def cut_part(root: Path) -> Result:
    """A checkpoint cut at every percent of its length; the one before it must be taken."""
    folder = root / "cut"
    assert start(root, "cut").wait() == 0
    path = folder / "model_final.pth"
    content = path.read_bytes()
    taken = Counter()
    for percent in range(100):
        path.write_bytes(content[: len(content) * percent // 100])
        taken[Path(newest_whole(folder)).name] += 1
    resumed = start(root, "cut", "--resume")
    assert resumed.wait() == 0, resumed.console()
    return {
        "cuts": 100,
        "taken": dict(taken),
        "whole_after": is_whole(path),
        "warned": "missing or damaged" in resumed.console(),
        "differences": differences(root / STRAIGHT, folder),
    }


def worker_part(root: Path, count: int) -> Result:
    """SIGKILL for a data worker: one line, and the same bits after a resume."""
    results = []
    for index in range(max(1, count // 20)):
        name = f"worker_{index}"
        run = start(root, name)
        run.wait(Moment(0, "loading", 5 + 8 * index).reached(run))
        workers = _children(run.pid)
        for pid in workers[:1]:
            os.kill(pid, signal.SIGKILL)
        code = run.wait()
        assert start(root, name, "--resume").wait() == 0
        results.append(
            {
                "killed": len(workers[:1]),
                "exit_code": code,
                **_said(run, "a data worker ended", root),
                "differences": differences(root / STRAIGHT, root / name),
            }
        )
    return {"runs": results}


def disk_part(root: Path) -> Result:
    """A disk that fails before the third checkpoint; the run goes on when it is in order again."""
    part: Result = {}
    for name, (fail, repair) in _disk_failures().items():
        folder = root / f"disk_{name}"
        run = start(root, folder.name, before=partial(_before_step, 7, partial(fail, folder)))
        code = run.wait()
        repair(folder)
        last = newest_whole(folder)
        assert start(root, folder.name, "--resume").wait() == 0
        part[name] = {
            "exit_code": code,
            **_said(run, "cannot write", root),
            "last_whole": Path(last).stem,
            "differences": differences(root / STRAIGHT, folder),
        }
    return part


def _disk_failures() -> dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]]:
    """Returns for each failure how it comes about, in the run, and how it ends."""

    def limit_file_size(folder: Path) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))

    def protect(folder: Path) -> None:
        folder.chmod(0o555)
        if os.geteuid() == 0:  # who may write everywhere
            os.seteuid(65534)

    return {
        "file_size_limit": (limit_file_size, lambda folder: None),
        "read_only_folder": (protect, lambda folder: folder.chmod(0o755)),
        "lost_folder": (
            lambda folder: folder.rename(folder.with_suffix(".lost")),
            lambda folder: folder.with_suffix(".lost").rename(folder),
        ),
    }


def full_disk_part(root: Path) -> Result:
    """A disk that is full, which needs root for a small file system of its own."""
    folder = root / "small"
    folder.mkdir()
    size = sum(path.stat().st_size for path in (root / STRAIGHT).glob("*.pth")) + 2**20
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "reliability", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        return {"skipped": "no right to mount"}
    filler = folder / "filler"

    def fill(folder: Path) -> None:
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)) == 4096:
                pass

    try:
        run = start(root, "small/run", before=partial(_before_step, 7, partial(fill, folder)))
        code = run.wait()
        filler.unlink()
        last = newest_whole(folder / "run")
        assert start(root, "small/run", "--resume").wait() == 0
        return {
            "exit_code": code,
            **_said(run, "cannot write", root),
            "last_whole": Path(last).stem,
            "differences": differences(root / STRAIGHT, folder / "run"),
        }
    finally:
        # lazily: data workers of the failed run may still have its log open
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _before_step(step: int, action: Callable[[], Any]) -> None:
    run_step = Trainer.run_step

    def acting(self: Trainer) -> None:
        if self.iter == step:
            action()
        run_step(self)

    Trainer.run_step = acting


def _said(run: ForkedRun, words: str, root: Path) -> Result:
    lines = run.console().splitlines()
    message = next((line for line in lines if words in line), "")
    return {
        "message": message.replace(f"{root}/", ""),  # no name of a temporary folder
        "tracebacks": sum(line.startswith("Traceback") for line in lines),
    }


def ranks_part(root: Path) -> Result:
    """SIGKILL for one of two processes: the other ends, and the same bits after a resume."""
    part: Result = {}
    for process in _ranks(root, "two"):
        assert process.wait() == 0, process.console()
    killed, other = _ranks(root, "one_of_two")
    killed.wait(Moment(0, "metrics", 7).reached(killed))
    killed.signal(signal.SIGKILL)
    began = time.monotonic()
    code = other.wait()
    part["seconds_to_end"] = round(time.monotonic() - began, 1)
    part.update(exit_code=code, **_said(other, "another process of this run", root))
    killed.wait()
    for process in _ranks(root, "one_of_two", "--resume"):
        assert process.wait() == 0, process.console()
    return {**part, "differences": differences(root / "two", root / "one_of_two")}


def _ranks(root: Path, name: str, *more: str) -> list[ForkedRun]:
    """Starts the run in two processes that meet by environment variables."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    return [
        ForkedRun(
            student(root, name, *more),
            root / f"{name}_{rank}.txt",
            environment={
                **common,
                "MASTER_PORT": str(port),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "GLOO_SOCKET_IFNAME": "lo",
            },
        )
        for rank in (0, 1)
    ]


def _children(pid: int) -> list[int]:
    text = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in text.stdout.split()]


def long_part(root: Path, steps: int) -> Result:
    """Memory and open files of a long run."""
    file = root / "growth.json"
    steps_from = min(MEASURED_FROM, steps // 3)
    options = [f"train.max_iter={steps}", "train.eval_period=0", "train.checkpointer.period=250"]
    run = ForkedRun(
        student(root, "long", *options),
        root / "long.txt",
        before=partial(_measure_each_step, file, steps_from),
    )
    started = time.monotonic()
    while run.poll() is None:
        time.sleep(0.1)
    assert run.code == 0, run.console()
    return {
        "steps": steps,
        "seconds": round(time.monotonic() - started),
        **json.loads(file.read_text()),
    }


def _measure_each_step(file: Path, first: int) -> None:
    """Measures `first` steps from step `first` on, and as many at the end.

    The numbers are the largest of these steps: each batch that waits in the queue of a data worker
    has open files of its own.
    """
    run_step = Trainer.run_step
    growth: Result = {"from_step": first}

    def measured(self: Trainer) -> None:
        run_step(self)
        step = self.iter + 1
        when = "before" if first <= step < 2 * first else "after"
        if when == "before" or step > self.max_iter - first:
            values = {"megabytes": round(_resident_megabytes(), 1), "open_files": _open_files()}
            for name, value in values.items():
                key = f"{name}_{when}"
                growth[key] = max(value, growth.get(key, 0))
        if step == self.max_iter:
            file.write_text(json.dumps(growth))

    Trainer.run_step = measured


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


# ------------------------------------------------------------------ command


@contextmanager
def prepared() -> Iterator[Path]:
    """Gives a folder with the data, the teacher and the undisturbed run."""
    with tempfile.TemporaryDirectory(prefix="reliability_") as folder:
        root = Path(folder)
        prepare(root)
        run = start(root, STRAIGHT)
        assert run.wait() == 0, run.console()
        seconds = time.monotonic() - run.started
        entries = {phase: run.entries(phase) for phase in PHASES}
        content = {"seconds": seconds, "entries": entries, "steps": STEPS}
        (root / "straight.json").write_text(json.dumps(content))
        yield root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=100, help="SIGKILLs (100)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (2)")
    parser.add_argument("--steps", type=int, default=LONG_STEPS, help="of the long run (2000)")
    parser.add_argument("--only", nargs="+", help="parts to carry out (all)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    parts: dict[str, Callable[[Path], Result]] = {
        "cut": cut_part,
        "worker": partial(worker_part, count=arguments.moments),
        "disk": disk_part,
        "full_disk": full_disk_part,
        "ranks": ranks_part,
        "kill": partial(kill_part, count=arguments.moments, jobs=arguments.jobs),
        "signals": partial(signal_part, count=arguments.moments, jobs=arguments.jobs),
        "long": partial(long_part, steps=arguments.steps),
    }
    logging.disable(logging.WARNING)  # in this process; runs write to files of their own
    figures: Result = {"environment": environment()}
    with prepared() as root:
        for name in arguments.only or parts:
            began = time.monotonic()
            figures[name] = parts[name](root)
            figures[name]["part_seconds"] = round(time.monotonic() - began)
            print(name, json.dumps(figures[name], indent=2), flush=True)
            if arguments.json:  # after each part, since some take long
                write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
