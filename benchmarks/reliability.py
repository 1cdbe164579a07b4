"""Interrupts tiny training runs in every way and compares them with an undisturbed one.

    python benchmarks/reliability.py --moments 100 --json benchmarks/results/reliability.json
    python benchmarks/reliability.py --only long

The run distils a tiny DINO student for 12 steps with 2 data workers, the moving average and
bfloat16, evaluates every 4 and saves every 3 steps. After SIGKILL at a random moment it is resumed,
and must end with the same bits: weights, average, optimizer, generators, metrics.json, results.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# as a script it has only benchmarks/ on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.clockdistill  # before detectron2: silences a warning of its import

# isort: split
import torch
from tabulate import tabulate

from benchmarks.report import environment, write_json
from benchmarks.tiny_runs import ForkedRun, Moment, PHASES, STEPS, moments, prepare, student
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
    return ForkedRun(student(root, name, *more), root / f"{name}.txt", **kwargs)


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
        expected = {0, 128 + number}
        bad = [r for r in results if r["differences"] or r["exit_code"] not in expected]
        part[number.name] = {
            "moments": len(results),
            "saved_and_identical": len(results) - len(bad),
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
        "whole_before": is_whole(path),
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
        lines = run.console().splitlines()
        assert start(root, name, "--resume").wait() == 0
        results.append(
            {
                "killed": len(workers[:1]),
                "exit_code": code,
                "traceback": any(line.startswith("Traceback") for line in lines),
                "message": next((x for x in lines if "a data worker ended" in x), ""),
                "differences": differences(root / STRAIGHT, root / name),
            }
        )
    return {"runs": results}


def _children(pid: int) -> list[int]:
    text = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in text.stdout.split()]


def long_part(root: Path, steps: int) -> Result:
    """Memory and open files of a long run."""
    file = root / "growth.json"
    steps_from = min(MEASURED_FROM, steps // 2)
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
    return {"steps": steps, "seconds": round(time.monotonic() - started), **json.loads(file.read_text())}


def _measure_each_step(file: Path, first: int) -> None:
    run_step = Trainer.run_step
    growth: Result = {"from_step": first}

    def measured(self: Trainer) -> None:
        run_step(self)
        done = self.iter + 1
        if done in (first, self.max_iter):
            when = "before" if done == first else "after"
            growth[f"megabytes_{when}"] = round(_resident_megabytes(), 1)
            growth[f"open_files_{when}"] = len(os.listdir("/proc/self/fd"))
            file.write_text(json.dumps(growth))

    Trainer.run_step = measured


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
        "kill": partial(kill_part, count=arguments.moments, jobs=arguments.jobs),
        "signals": partial(signal_part, count=arguments.moments, jobs=arguments.jobs),
        "cut": cut_part,
        "worker": partial(worker_part, count=arguments.moments),
        "long": partial(long_part, steps=arguments.steps),
    }
    figures: Result = {}
    with prepared() as root:
        for name in arguments.only or parts:
            began = time.monotonic()
            figures[name] = parts[name](root)
            figures[name]["part_seconds"] = round(time.monotonic() - began)
            print(tabulate(figures[name].items(), tablefmt="plain"), "\n", flush=True)
    if arguments.json:
        write_json(arguments.json, {"environment": environment(), **figures})


if __name__ == "__main__":
    main()
