"""Data workers outlive a signal for the whole group, never the program, and end in silence."""

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


TAKES_HALF_A_BATCH = """
import os
from multiprocessing import current_process
from multiprocessing.connection import Client
from multiprocessing.resource_sharer import DupFd
from torch.utils.data import DataLoader
from projects.clockdistill.engine.interruption import shield_workers

class Images:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        shared = DupFd(0)
        Client(shared._id[0], authkey=current_process().authkey).close()  # as if the reader ended
        os.close(shared.detach())  # waits for the thread: it serves one connection at a time
        return index

loader = DataLoader(Images(), num_workers=1)
shield_workers(loader)
print(int(next(iter(loader))))
"""


def run(program: str) -> tuple[int, str, str]:
    """Returns exit code, output and errors."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout.strip(), done.stderr


def test_a_worker_is_silent_about_a_reader_that_ended() -> None:
    assert run(TAKES_HALF_A_BATCH) == (0, "0", "")


def test_a_program_ends_though_its_loader_was_not_read_to_the_end() -> None:
    assert run(PROGRAM) == (0, "0", "")
