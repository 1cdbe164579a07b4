"""Parameters, multiply-adds and speed of a table's detectors, by `tools/analyze_model.py`."""

import json
import os
import subprocess
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

    Attributes:
        file: JSON of what was measured.
        command: measures it; the median of 30 timed passes counts.
    """

    def __init__(self, plan: Plan, row: Row) -> None:
        row = plan.table.row(row.gain_over) if row.teachers else row  # the same detector
        config, overrides = row.configs[plan.scale], row.overrides[plan.scale]
        height, width = plan.table.image[plan.scale]
        model = load_config(str(CONFIGS / config), list(overrides)).model
        content = digest(OmegaConf.to_container(model, resolve=True))
        name = f"{Path(config).stem}_{height}x{width}_{content}.json"
        self.file = plan.folder / "costs" / name
        image = ("--height", str(height), "--width", str(width))
        options = (*image, "--repeats", "30", "--json", str(self.file))
        self.command = tool_command("analyze_model", config, *options, *overrides)

    def measure(self) -> None:
        """Measures on one CPU thread, unless that was done before."""
        if self.file.is_file():
            return
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(self.command, env=environment, capture_output=True, text=True)
        if done.returncode:
            print(f"  costs FAILED: {self.file.stem}\n{done.stderr[-1000:]}", flush=True)

    def figures(self) -> dict[str, Any]:
        """Returns what was measured; nothing if it was not."""
        return json.loads(self.file.read_text())["models"][0] if self.file.is_file() else {}
