"""One training run: its folder, its state as files tell it, and what to do with it next.

The state of a run is its run.json, written atomically before the run starts and after it ended:

    no run.json, or one of another config, teacher or data    -> start anew
    status "ok" and the same                                  -> done
    status "running" (so it was interrupted) or "failed"      -> resume

A run that starts anew takes over what a run of the same content under another name has left.
"""

import json
import shutil
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from projects.clockdistill.engine import environment
from projects.clockdistill.engine.atomic import atomic_write
from projects.clockdistill.engine.commands import shown, tool_command
from projects.clockdistill.engine.jobs import Job
from projects.clockdistill.engine.progress import training_seconds
from reproduction.identity import data_hash, file_hash

RECORD = "run.json"


class Action(Enum):
    """What a run needs."""

    NOTHING = "done"
    RESUME = "resume"
    START = "start"


@dataclass(frozen=True)
class Run:
    """One call of tools/train_net.py, repeated until it has come to its end.

    Attributes:
        title: how messages call it.
        config: its config file, below configs/.
        overrides: key=value, in order.
        folder: its output folder.
        config_hash: of the config with its overrides, see `identity.config_hash`.
        steps: of the whole run.
        test_dataset: the registered dataset that it is measured on.
        num_gpus: for tools/train_net.py.
        starts_from: file of its initial weights; None if it starts from scratch or an address.
        teacher: weights of its teacher, which may not be there yet; None without distillation.
        evaluates: weights that are only measured; None for a run that trains.
        teaches: whether other runs need its weights.
    """

    title: str
    config: str
    overrides: tuple[str, ...]
    folder: Path
    config_hash: str
    steps: int
    test_dataset: str
    num_gpus: int = 1
    starts_from: Path | None = None
    teacher: Path | None = None
    evaluates: Path | None = None
    teaches: bool = False

    @property
    def weights(self) -> Path:
        """Where its weights are once it is done."""
        return self.evaluates or self.folder / "model_final.pth"

    @property
    def detections(self) -> Path:
        """What it found in the test images, in COCO's result format."""
        return self.folder / "inference/coco_instances_results.json"

    def command(self, action: Action) -> tuple[str, ...]:
        """What to run."""
        arguments = []
        if self.num_gpus > 1:
            arguments += ["--num-gpus", str(self.num_gpus)]
        if self.evaluates is not None:
            arguments += ["--eval-only", f"train.init_checkpoint={self.evaluates}"]
        elif action is Action.RESUME:
            arguments += ["--resume"]
        if self.teacher is not None:
            arguments += [f"model.teacher_checkpoint={self.teacher}"]
        arguments += [*self.overrides, f"train.output_dir={self.folder}"]
        return tool_command("train_net", self.config, *arguments)

    def job(self, action: Action) -> Job:
        """Itself as a program to run."""
        return Job(self.title, self.command(action), self.folder)

    def inputs(self) -> dict[str, str | None]:
        """Digests of what it reads besides its config."""
        files = {
            "initialisation": self.starts_from,
            "teacher": self.teacher,
            "weights": self.evaluates,
        }
        found = {name: file_hash(path) for name, path in files.items() if path is not None}
        return {**found, "test_data": data_hash(self.test_dataset)}


def read_record(folder: Path) -> dict[str, Any] | None:
    """A run's run.json; None if there is none or it cannot be read."""
    try:
        return json.loads((folder / RECORD).read_text())
    except (OSError, json.JSONDecodeError):
        return None


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / RECORD, "w") as handle:
        handle.write(json.dumps(record, indent=2) + "\n")


def next_action(run: Run) -> tuple[Action, str]:
    """What a run needs, and why."""
    record = read_record(run.folder)
    if record is None:
        return Action.START, "not run yet"
    if record["config_hash"] != run.config_hash:
        return Action.START, "its config has changed"
    inputs = run.inputs()
    for name in sorted(inputs.keys() | record["inputs"].keys()):
        if inputs.get(name) != record["inputs"].get(name):
            return Action.START, f"its {name.replace('_', ' ')} has changed"
    if record["status"] == "ok":
        if run.teaches and not run.weights.is_file():
            return Action.START, f"{run.weights.name} is gone"
        return Action.NOTHING, "done"
    if (run.folder / "last_checkpoint").is_file():
        return Action.RESUME, f"{record['status']} before"
    return Action.START, f"{record['status']} before its first checkpoint"


def twin(run: Run, root: Path) -> Path | None:
    """The folder of a finished run of the same content, whatever its config is called.

    Args:
        run: whose content.
        root: where to look.
    """
    for file in sorted(root.glob(f"**/seed*/{RECORD}")):
        record = read_record(file.parent)
        if record is None or file.parent == run.folder or record["status"] != "ok":
            continue
        if record["config_hash"] == run.config_hash and record["inputs"] == run.inputs():
            return file.parent
    return None


def copy(run: Run, source: Path) -> None:
    """Takes over a twin's folder, but for the weights on the way and the events."""
    temporary = run.folder.with_name(f"{run.folder.name}.copying")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary, ignore=shutil.ignore_patterns("model_[0-9b]*", "events*"))
    shutil.rmtree(run.folder, ignore_errors=True)
    temporary.rename(run.folder)


def result(run: Run) -> dict[str, Any] | None:
    """The record of a run, if it is one of this very config, teacher and data."""
    record = read_record(run.folder)
    same = record is not None and record["config_hash"] == run.config_hash
    return record if same and record["inputs"] == run.inputs() else None


def has_failed(run: Run) -> bool:
    """Whether the last attempt at a run failed."""
    record = result(run)
    return record is not None and record["status"] == "failed"


def begin(run: Run, action: Action) -> None:
    """Makes a run's folder ready and notes that the run goes on; call it right before."""
    before = read_record(run.folder) if action is Action.RESUME else None
    if before is None:
        shutil.rmtree(run.folder, ignore_errors=True)  # its metrics.json would go on otherwise
    _write_record(run.folder, _record(run, "running", before))


def finish(run: Run, code: int) -> str | None:
    """Notes how a run ended.

    Args:
        run: one that `begin` was called with.
        code: its exit code.

    Returns:
        Why it failed; None if it did not.
    """
    reason, metrics = None, {}
    results = run.folder / "results.json"
    if code:
        console = run.job(Action.RESUME)
        reason = f"exit code {code}; the end of {console.console.name}:\n{console.last_lines()}"
    elif not results.is_file():
        reason = "it ended without results.json"
    else:
        metrics = json.loads(results.read_text())["bbox"]
        if metrics["AP"] is None:
            reason = "no AP: the test data has no objects"
    ended = {"metrics": metrics, "train_seconds": training_seconds(run.folder), "reason": reason}
    status = "failed" if reason else "ok"
    _write_record(run.folder, _record(run, status, read_record(run.folder)) | ended)
    return reason


def refuse(run: Run, reason: str) -> None:
    """Notes that a run could not even start."""
    _write_record(run.folder, _record(run, "failed", None) | {"reason": reason})


def _record(run: Run, status: str, before: dict[str, Any] | None) -> dict[str, Any]:
    """What run.json says, of all attempts since `before`."""
    commits = before["commits"] if before else []
    return {
        "status": status,
        "config": run.config,
        "config_hash": run.config_hash,
        "inputs": run.inputs(),
        "overrides": list(run.overrides),
        "command": shown(run.command(Action.START)),
        "commits": list(dict.fromkeys([*commits, environment.commit()])),
        "versions": environment.versions(),
        "machine": environment.machine(),
        "steps": None if run.evaluates else run.steps,
    }
