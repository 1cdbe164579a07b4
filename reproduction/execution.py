"""Carries out runs: skips those that are done, resumes those that were interrupted.

Each run's folder has a `run.json`, written when the run starts and when it ends, with its status
("running", "ok" or "failed") and digests of all that it depends on. Those of finished runs are kept
next to the tables, too, so that a table can be continued on another machine.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog
from omegaconf import OmegaConf

from projects.clockdistill.engine import environment
from projects.clockdistill.engine.atomic import atomic_write
from projects.clockdistill.engine.config_file import CONFIGS, ROOT, load_config
from projects.clockdistill.engine.data_config import dataset_names, unlabelled_names
from projects.clockdistill.engine.jobs import Run, run_together, shown

# Files that a run depends on, by the config key that names them.
WEIGHTS = {"initial weights": "train.init_checkpoint", "teacher": "model.teacher_checkpoint"}


def execute(
    runs: Sequence[Run],
    at_once: int,
    *,
    need_weights: Collection[Path] = (),
    after_each: Callable[[], object] = lambda: None,
) -> None:
    """Carries out runs. One that fails is recorded; the others go on.

    Args:
        runs: in order.
        at_once: number of runs at a time.
        need_weights: folders of runs that are run again if they are finished but their weights are
            gone.
        after_each: called after each run.
    """
    waiting = []
    for run in runs:
        action, reason = next_action(run, need_weights=run.folder in need_weights)
        print(f"{run.title}: {action} ({reason})", flush=True)
        if action != "done":
            waiting.append(_with_action(run, action))

    def ended(run: Run, code: int) -> None:
        _ended(run, code)
        after_each()

    run_together(waiting, ended, started=_started, at_once=at_once)


def print_commands(runs: Sequence[Run]) -> None:
    """Prints what `execute` would run."""
    for run in runs:
        action, _ = next_action(run)
        if action == "done":
            print(f"# {run.title}: done")
        else:
            print(shown(_with_action(run, action).command))


def next_action(run: Run, *, need_weights: bool = False) -> tuple[str, str]:
    """Returns "done", "resume" or "start", and the reason."""
    record = _read(run)
    if record is None:
        return "start", "not run yet"
    change = _change(run, record)
    if change:
        return "start", f"its {change} changed"
    if record["status"] == "ok":
        gone = need_weights and not (run.folder / "model_final.pth").is_file()
        return ("start", "its weights are gone") if gone else ("done", "done")
    if (run.folder / "last_checkpoint").is_file():
        return "resume", f"{record['status']} before"
    return "start", f"{record['status']} before its first checkpoint"


def result(run: Run) -> dict[str, Any] | None:
    """Returns the record of a run, unless something that it depends on has changed since."""
    record = _read(run)
    return None if record is None or _change(run, record) else record


def status_of(run: Run) -> str | None:
    """Returns "running", "ok" or "failed", or None for a run without a record that counts."""
    return (result(run) or {}).get("status")


def keep_records(runs: Iterable[Run], folder: Path, file: Path) -> None:
    """Adds the records of those runs that are finished to a file.

    Args:
        runs: finished or not.
        folder: of their folders.
        file: JSON of records by the run's folder below `folder`; made if need be.
    """
    records = json.loads(file.read_text()) if file.is_file() else {}
    finished = [run for run in runs if status_of(run) == "ok"]
    records |= {run.folder.relative_to(folder).as_posix(): _read(run) for run in finished}
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file, "w") as handle:
        handle.write(json.dumps(records, indent=2, sort_keys=True) + "\n")


def restore_records(runs: Iterable[Run], folder: Path, file: Path) -> None:
    """Writes the records of `keep_records` into the folders of runs that are not finished.

    Left out are records of other settings, weights or data, and folders that hold the weights of
    another run.
    """
    records = json.loads(file.read_text()) if file.is_file() else {}
    for run in runs:
        record = records.get(run.folder.relative_to(folder).as_posix())
        has_weights = (run.folder / "model_final.pth").is_file()
        if record and not has_weights and status_of(run) != "ok" and not _change(run, record):
            run.folder.mkdir(parents=True, exist_ok=True)
            _write(run, record)


def inputs(run: Run) -> dict[str, str | None]:
    """Returns digests of all that a run's result depends on; None for what is not there (yet).

    Where weights lie does not count, only what they are.
    """
    config, weights, data = _settings(run.config, run.overrides)
    found = {name: _file_digest(address) for name, address in weights.items()}
    found |= {name: data_digest(dataset) for name, dataset in data.items()}
    return {**found, "config": config}


@cache
def _settings(
    config: str, overrides: tuple[str, ...]
) -> tuple[str, dict[str, str], dict[str, str]]:
    """Returns a config's digest without the addresses of weights, these, and names of datasets."""
    cfg = load_config(str(CONFIGS / config), list(overrides))
    weights = {}
    for name, key in WEIGHTS.items():
        address = OmegaConf.select(cfg, key)
        if address:
            weights[name] = address
            OmegaConf.update(cfg, key, "")
    trained_on = [*dataset_names(cfg, "train"), *unlabelled_names(cfg.dataloader)]
    data = {"test data": cfg.dataloader.test.dataset.names}
    data |= {f"training data {name}": name for name in trained_on}
    return digest(OmegaConf.to_container(cfg, resolve=True)), weights, data


def _change(run: Run, record: dict[str, Any]) -> str:
    """Returns which input differs from the recorded one. A file that is gone has not changed."""
    now = inputs(run)
    changed = (name for name in now if now[name] not in (None, record["inputs"].get(name)))
    return next(changed, "")


def _file_digest(address: str) -> str | None:
    if "://" in address:  # downloaded weights are checked by their address
        return address
    for path in (Path(address), ROOT / address):
        if path.is_file():
            status = path.stat()
            return _content_digest(path, status.st_size, status.st_mtime_ns)
    return None


@cache
def _content_digest(path: Path, size: int, time: int) -> str:
    """Digests a file, once for all runs that depend on it; size and time tell when it changed."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def data_digest(dataset: str) -> str | None:
    """Digests a dataset's labels and first image: drawn scenes can change, and no config does."""
    try:
        frames = DatasetCatalog.get(dataset)
    except (KeyError, OSError, ValueError):  # tools/train_net.py says what is missing
        return None
    labels = [{**frame, "file_name": Path(frame["file_name"]).name} for frame in frames]
    return digest([labels, _file_digest(frames[0]["file_name"])])


def digest(content: Any) -> str:
    """Digests plain values; functions and classes count by their names."""

    def name(value: Any) -> str:
        return getattr(value, "__qualname__", type(value).__qualname__)

    text = json.dumps(content, sort_keys=True, default=name)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _with_action(run: Run, action: str) -> Run:
    return replace(run, options=(*run.options, "--resume")) if action == "resume" else run


def _started(run: Run) -> None:
    before = _read(run) or {"commits": []}  # there is one if it resumes
    record = {
        "status": "running",
        "inputs": inputs(run),
        "commits": list(dict.fromkeys([*before["commits"], environment.commit()])),
        "machine": environment.machine(),
    }
    _write(run, record)


def _ended(run: Run, code: int) -> None:
    reason, metrics = "", {}
    if code:
        reason = f"exit code {code}; the end of {run.console.name}:\n{run.last_lines()}"
    elif not (run.folder / "results.json").is_file():
        reason = "it ended without results.json"
    else:
        metrics = run.metrics()
        if metrics["AP"] is None:
            reason = "no AP: the test data has no objects"
    outcome = f" FAILED: {reason}" if reason else f": {metrics['AP']:.1f} AP"
    print(f"  {run.title}{outcome}", flush=True)
    logged = run.logged()
    record = {
        **_read(run),
        "status": "failed" if reason else "ok",
        "reason": reason,
        "metrics": metrics,
        "steps": logged[-1]["iteration"] + 1 if logged else None,
        "train_seconds": training_seconds(logged),
    }
    _write(run, record)


def training_seconds(logged: Sequence[dict[str, Any]]) -> float | None:
    """Returns the time of all training steps, without start-up, evaluation and checkpoints.

    Each line of `metrics.json` holds the median time of the steps since the line before. Steps
    that a resumed run repeated count once, as the last line says.
    """
    seconds = {line["iteration"]: line["time"] for line in logged if "time" in line}
    total, before = 0.0, -1
    for iteration in sorted(seconds):
        total += (iteration - before) * seconds[iteration]
        before = iteration
    return total or None


def _read(run: Run) -> dict[str, Any] | None:
    try:
        return json.loads((run.folder / "run.json").read_text())
    except (OSError, json.JSONDecodeError):
        return None


def _write(run: Run, record: dict[str, Any]) -> None:
    with atomic_write(run.folder / "run.json", "w") as handle:
        handle.write(json.dumps(record, indent=2) + "\n")
