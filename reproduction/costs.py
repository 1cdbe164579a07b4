"""Parameters, multiply-adds and speed of the detectors of a table, each measured once."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from projects.clockdistill.engine.commands import CONFIGS, tool_command
from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.engine.jobs import Job, run_together
from reproduction.identity import config_hash
from reproduction.plan import Plan, run_name
from reproduction.table import Row

_REPEATS = 30  # passes that are timed; their median counts


@dataclass(frozen=True)
class Measurement:
    """One call of tools/analyze_model.py.

    Attributes:
        job: what to run.
        file: where the figures are, once it has run.
    """

    job: Job
    file: Path

    def figures(self) -> dict[str, Any] | None:
        """What tools/analyze_model.py found; None if it was not measured."""
        return json.loads(self.file.read_text())["models"][0] if self.file.is_file() else None


def measurements(plan: Plan) -> dict[str, Measurement]:
    """Row name -> what measures its detector; rows of one detector share it."""
    scale = plan.options.scale
    return {
        row.name: _measurement(_detector_row(row, plan), plan) for row in plan.table.rows_at(scale)
    }


def _detector_row(row: Row, plan: Plan) -> Row:
    """The row that trains the same detector without distillation."""
    return row if row.teacher is None else plan.table.row(row.compared_with)


def _measurement(row: Row, plan: Plan) -> Measurement:
    scale = plan.options.scale
    config = row.configs[scale]
    overrides = row.overrides.get(scale, ())
    height, width = plan.table.input_sizes[scale]
    digest = config_hash(load_config(str(CONFIGS / config), list(overrides)))
    folder = plan.options.folder / run_name(config)
    file = folder / f"costs_{height}x{width}_{digest}.json"
    options = ("--height", str(height), "--width", str(width), "--repeats", str(_REPEATS))
    command = tool_command("analyze_model", config, *options, "--json", str(file), *overrides)
    return Measurement(Job(f"costs of {run_name(config)}", command, folder), file)


def unmeasured(wanted: Sequence[Measurement]) -> list[Job]:
    """What to run, each once."""
    return list({one.file: one.job for one in wanted if not one.file.is_file()}.values())


def measure(wanted: Sequence[Measurement], lock: int) -> None:
    """Measures what is not measured, one after the other: timing asks for an idle machine."""

    def ended(job: Job, code: int) -> None:
        if code:
            print(f"  {job.title} FAILED: exit code {code}\n{job.last_lines()}", flush=True)

    # one thread: several would wait for each other wherever the machine is not quite idle
    options = {"at_once": 1, "threads": 1, "inherited": [lock]}
    run_together(unmeasured(wanted), lambda job: None, ended, **options)
