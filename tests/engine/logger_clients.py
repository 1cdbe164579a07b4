"""Clients of loggers: small ones with the calls of the real ones, and what each of them was given.

The real ones take part where they are installed: W&B offline, MLflow with files.
"""

import json
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


@dataclass
class Given:
    """What a client was given of one run, from all its parts."""

    values: list[tuple[int, str, float]] = field(default_factory=list)  # iteration, name, value
    settings: dict[str, Any] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    ends: list[Any] = field(default_factory=list)  # exit codes or statuses


Runs = dict[str, Given]


def _module(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, origin="stand-in")
    module.__dict__.update(content)
    monkeypatch.setitem(sys.modules, name, module)


class WandbRun:
    """Stands in for wandb.Run."""

    def __init__(self, run_id: str, given: Given) -> None:
        self.id, self._given = run_id, given

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        assert (name, step_metric) == ("*", "iteration")

    def log(self, data: dict[str, Any]) -> None:
        _add_row(self._given, dict(data))

    def finish(self, exit_code: int | None = None) -> None:
        self._given.ends.append(exit_code)


def stand_in_wandb(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Replaces the package; returns the runs that it is given, by their id."""
    runs: Runs = {}

    def init(
        project: str | None = None,
        id: str | None = None,
        name: str | None = None,
        config: dict[str, Any] | None = None,
        allow_val_change: bool | None = None,
        resume: str | None = None,
    ) -> WandbRun:
        assert (resume == "allow") == (id is not None)
        run_id = id or f"id{len(runs)}"
        runs.setdefault(run_id, Given()).settings.update(config, project=project)
        return WandbRun(run_id, runs[run_id])

    def table(columns: list[str], data: list[list[Any]]) -> dict[str, Any]:
        return {"columns": columns, "data": data}

    _module(monkeypatch, "wandb", init=init, Table=table, Run=WandbRun)
    return runs


def stand_in_mlflow(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Replaces the package; returns the runs that it is given, by their id."""
    runs: Runs = {}
    active: list[str] = []

    def start_run(run_id: str | None = None, run_name: str | None = None) -> None:
        if run_id is None:
            run_id = f"id{len(runs)}"
            runs[run_id] = Given(settings={"project": os.environ["MLFLOW_EXPERIMENT_NAME"]})
        active.append(run_id)

    def active_run() -> SimpleNamespace:
        return SimpleNamespace(info=SimpleNamespace(run_id=active[-1]))

    def log_params(params: dict[str, Any]) -> None:
        assert not runs[active[-1]].settings.keys() & params.keys()  # they cannot change
        runs[active[-1]].settings.update(params)

    def log_metrics(metrics: dict[str, float], step: int | None = None) -> None:
        runs[active[-1]].values += [(step, name, value) for name, value in metrics.items()]

    def log_artifact(local_path: str) -> None:
        assert Path(local_path).is_file()
        runs[active[-1]].files.add(Path(local_path).name)

    def end_run(status: str = "FINISHED") -> None:
        runs[active.pop()].ends.append(status)

    functions = (start_run, active_run, log_params, log_metrics, log_artifact)
    content = {function.__name__: function for function in (*functions, end_run)}
    _module(monkeypatch, "mlflow", **content)
    return runs


def _add_row(given: Given, row: dict[str, Any]) -> None:
    if any(key.split(".")[0] == "results" for key in row):
        given.files.add("results")
        return
    iteration = row.pop("iteration")
    given.values += [(iteration, key, x) for key, x in row.items() if not key.startswith("_")]


def offline_wandb(folder: Path) -> Runs:
    """Reads what the real W&B wrote below a folder."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # its service writes on after the end of a run, and keeps its first folder
    runs: Runs = {}
    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        given = runs.setdefault(file.stem.removeprefix("run-"), Given())
        for content in _log_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                given.settings["project"] = record.run.project
                for item in record.run.config.update:
                    given.settings[item.key] = json.loads(item.value_json)
            elif kind == "history":
                items = record.history.item
                row = {x.key or ".".join(x.nested_key): json.loads(x.value_json) for x in items}
                _add_row(given, row)
            elif kind == "exit":
                given.ends.append(record.exit.exit_code)
    return runs


def _log_records(content: bytes) -> Iterator[bytes]:
    """Yields the records of a file in LevelDB's log format, behind W&B's header of 7 bytes."""
    position, record = 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768  # in this block
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)  # behind a checksum
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or last
            yield record
            record = b""


def stored_mlflow(folder: Path) -> Runs:
    """Reads what the real MLflow wrote into a folder's `mlruns`."""
    import mlflow

    client = mlflow.MlflowClient(f"file://{folder}/mlruns")
    runs: Runs = {}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            run_id = run.info.run_id
            given = runs[run_id] = Given()
            given.settings = {**run.data.params, "project": experiment.name}
            for name in run.data.metrics:
                history = client.get_metric_history(run_id, name)
                given.values += [(x.step, name, x.value) for x in history]
            given.files = {file.path for file in client.list_artifacts(run_id)}
            given.ends = [run.info.status]
    return runs
