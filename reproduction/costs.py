"""Parameters, multiply-adds and speed of a table's detectors, by `tools/analyze_model.py`."""

import json
import os
import subprocess
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from projects.clockdistill.engine.config_file import CONFIGS, load_config
from projects.clockdistill.engine.jobs import tool_command
from reproduction.execution import digest
from reproduction.plan import Plan
from reproduction.tables import Row


class Costs:
    """What the detector of a row costs. Rows with the same detector share the measurement.

    Args:
        plan: the table's runs.
        row: with or without distillation.
    """

    def __init__(self, plan: Plan, row: Row) -> None:
        row = plan.table.row(row.gain_over) if row.teachers else row  # the same detector
        self._config = row.configs[plan.scale]
        self._overrides = row.mini_overrides if plan.scale == "mini" else ()
        self._height, self._width = plan.table.image[plan.scale]
        self._folder = plan.folder / "costs"

    @cached_property
    def file(self) -> Path:
        model = load_config(str(CONFIGS / self._config), list(self._overrides)).model
        name = f"{Path(self._config).stem}_{self._height}x{self._width}"
        content = OmegaConf.to_container(model, resolve=True)
        return self._folder / f"{name}_{digest(content)}.json"

    @property
    def command(self) -> tuple[str, ...]:
        """The command that measures: 30 timed passes, of which the median counts."""
        image = ("--height", str(self._height), "--width", str(self._width))
        options = (*image, "--repeats", "30", "--json", str(self.file))
        return tool_command("analyze_model", self._config, *options, *self._overrides)

    def figures(self) -> dict[str, Any]:
        """Returns what was measured; nothing if it was not."""
        return json.loads(self.file.read_text())["models"][0] if self.file.is_file() else {}


def measure(costs: Sequence[Costs]) -> None:
    """Measures what is not measured yet, one detector after the other on one CPU thread."""
    for one in costs:
        if one.file.is_file():
            continue
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(one.command, env=environment, capture_output=True, text=True)
        if done.returncode:
            print(f"  costs FAILED: {one.file.stem}\n{done.stderr[-1000:]}", flush=True)
