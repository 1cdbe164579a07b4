"""Data workers outlive a signal for the whole group, but never the program."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
from torch.utils.data import DataLoader
from projects.clockdistill.engine.interruption import shield_workers

loader = DataLoader(list(range(100)), num_workers=2)
shield_workers(loader)
batches = iter(loader)
print(int(next(batches)))
"""  # the global variable keeps the workers until the end


def test_a_program_ends_though_its_loader_was_not_read_to_the_end() -> None:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "0", "")
