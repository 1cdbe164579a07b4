"""Tests tools/train_net.py under torchrun: two processes, then two machines and a killed process.

The runs have neither random flips nor denoising: what a run draws with another number of processes
differs.
"""

import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import train_net

from tests.tiny_run import PLAIN, tiny_overrides

REPOSITORY = Path(train_net.__file__).resolve().parents[1]
TIMEOUT = 240  # seconds, for a machine that does much else
EXACT = ["model.dn_number=0", "dataloader.train.mapper.augmentation=[]"]
SHORT = ["train.max_iter=5", "train.eval_period=0", "train.checkpointer.period=2"]

# Each process writes the weights that it holds at the end. With a path in KILLED_ONCE, process 1
# kills itself before the fifth step, unless it has done so already.
SCRIPT = """
import os, signal, sys
from pathlib import Path

import torch
import train_net
from detectron2.utils import comm
from projects.clockdistill.engine.trainer import Trainer
from tests.tiny_run import tiny_overrides

train, run_step = Trainer.train, Trainer.run_step

def train_and_write(self, start, end):
    train(self, start, end)
    path = Path(sys.argv[1], f"rank{comm.get_rank()}.pth")
    torch.save({"model": self.model.module.state_dict()}, path)

def run_step_or_die(self):
    mark = os.environ.get("KILLED_ONCE")
    if mark and self.iter == 4 and comm.get_rank() == 1 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    run_step(self)

Trainer.train, Trainer.run_step = train_and_write, run_step_or_die
tiny_overrides(Path(sys.argv[1]))
train_net.main(sys.argv[2:])
"""


def start(folder: Path, options: list[str], *more: str, **environment: str) -> subprocess.Popen:
    """Starts torchrun on the tiny run of `folder`, with its output in a file there."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", *options, str(script), str(folder)]
    config = ["--config-file", PLAIN, *more, *tiny_overrides(folder), *EXACT, *SHORT]
    paths = [str(REPOSITORY), str(REPOSITORY / "tools")]
    defaults = {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # docs/clusters.md
    }
    with open(folder / "output.txt", "ab") as output:
        return subprocess.Popen(
            [*command, *config],
            env={**os.environ, **defaults, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def finish(folder: Path, *launchers: subprocess.Popen) -> None:
    """Waits for them and shows their output if one fails."""
    try:
        codes = [launcher.wait(TIMEOUT) for launcher in launchers]
    except subprocess.TimeoutExpired:
        codes = ["timeout"]
    finally:
        for launcher in launchers:
            launcher.terminate()  # ends its processes too
    assert set(codes) == {0}, f"{codes}\n{(folder / 'output.txt').read_text()}"


def free_port() -> int:
    """Returns a port outside the range from which systems take ports by themselves."""
    while True:
        port = random.SystemRandom().randrange(20_000, 30_000)
        with socket.socket() as candidate:
            if candidate.connect_ex(("localhost", port)) != 0:
                return port


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def assert_same(one: Path, other: Path) -> None:
    torch.testing.assert_close(weights(one), weights(other), rtol=0, atol=0)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two processes that nothing disturbs."""
    folder = tmp_path_factory.mktemp("straight")
    finish(folder, start(folder, ["--standalone", "--nproc-per-node", "2"]))
    return folder


@pytest.mark.slow
def test_two_processes_train_one_model_and_evaluate(straight: Path) -> None:
    # the running statistics of a batch norm are each process's own
    ranks = [weights(straight / f"rank{rank}.pth") for rank in (0, 1)]
    trained = [key for key in ranks[0] if "running" not in key]
    assert all(torch.equal(ranks[0][key], ranks[1][key]) for key in trained)
    assert all(value.isfinite().all() for value in ranks[0].values())
    output = straight / "output"
    assert_same(output / "model_final.pth", straight / "rank0.pth")
    assert json.loads((output / "results.json").read_text())["bbox"].keys() >= {"AP", "AP-red"}
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    # written by one of the two
    assert [line["iteration"] for line in lines if "total_loss" in line] == [1, 3, 4]
    # all 8 test images, half of them seen by each process, 60 detections an image
    found = json.loads((output / "inference" / "coco_instances_results.json").read_text())
    assert sorted({x["image_id"] for x in found}) == list(range(8))
    assert len(found) == 8 * len([x for x in found if x["image_id"] == 0])


@pytest.mark.slow
def test_two_machines_go_on_from_the_last_checkpoint_after_a_kill(
    straight: Path, tmp_path: Path
) -> None:
    """Each machine is one torchrun; the processes meet over the loopback."""
    machines = ["--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3"]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{free_port()}"]
    options = [*machines, *meeting, "--rdzv-id", "run", "--local-addr", "localhost"]
    killed = tmp_path / "killed"
    launchers = [start(tmp_path, options, "--resume", KILLED_ONCE=str(killed)) for _ in range(2)]
    finish(tmp_path, *launchers)
    assert killed.exists()
    log = (tmp_path / "output" / "log.txt").read_text()
    assert "Starting training from iteration 0" in log
    assert "Starting training from iteration 4" in log
    final = Path("output", "model_final.pth")
    assert_same(tmp_path / final, straight / final)
