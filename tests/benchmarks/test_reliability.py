"""Tests a short campaign: every interrupted run ends as the undisturbed one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

from projects.clockdistill.engine.config_file import ROOT

PARTS = ("cut", "worker", "kill", "signals", "long")


def test_short_campaign(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    options = ["--moments", "2", "--steps", "40", "--only", *PARTS, "--json", str(file)]
    # in a process of its own: the campaign forks, which other tests' threads would not survive
    command = [sys.executable, str(ROOT / "benchmarks" / "reliability.py"), *options]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    assert figures["kill"]["identical"] == 2, figures["kill"]
    for name in ("SIGTERM", "SIGINT"):
        assert not figures["signals"][name]["failed"], figures["signals"]
    assert figures["cut"]["taken"] == {"model_0000008.pth": 100}
    for run in figures["worker"]["runs"]:
        assert (run["exit_code"], run["tracebacks"], run["differences"]) == (1, 0, []), run
        assert run["message"], run
    long = figures["long"]
    # 13 steps at the start and at the end: a file left open in each step would make 27 more
    assert long["open_files_after"] - long["open_files_before"] < 13
