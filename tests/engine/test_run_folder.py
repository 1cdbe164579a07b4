"""Tests that a folder holds one run, and one process at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from projects.clockdistill.engine.config_file import ROOT
from projects.clockdistill.engine.run_folder import LOCK, RunError, claimed, lock, remove_run

WRITTEN = (
    "config.yaml",
    "last_checkpoint",
    "log.txt",
    "log.txt.rank1",
    "loggers.json",
    "metrics.json",
    "model_0000003.pth",
    "model_best.json",
    "model_best.pth",
    "model_final.pth",
    "results.json",
    "results.md",
    "report.html",
    "inference/coco_instances_results.json",
    "nonfinite/iteration_0000003_rank0.pth",
    "events.out.tfevents.1.host.2.0",
    ".model_final.pth.tmp",
)


def _claim(folder: Path, *, resume: bool = False, overwrite: bool = False) -> None:
    with claimed(folder, resume=resume, overwrite=overwrite):
        pass


def _fill(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


@pytest.mark.parametrize("name", ["last_checkpoint", "model_0000003.pth", "metrics.json"])
def test_run_that_is_there_needs_resume_or_overwrite(tmp_path: Path, name: str) -> None:
    _claim(tmp_path)
    _fill(tmp_path, name)
    with pytest.raises(RunError) as caught:
        _claim(tmp_path)
    message = str(caught.value)
    assert f"train.output_dir={tmp_path} holds a run already ({name})" in message
    assert "--resume" in message and "--overwrite" in message
    _claim(tmp_path, resume=True)
    assert (tmp_path / name).exists()
    _claim(tmp_path, overwrite=True)
    assert not (tmp_path / name).exists()
    with pytest.raises(RunError, match="Fix: give one of them"):
        _claim(tmp_path, resume=True, overwrite=True)


def test_other_files_are_no_run(tmp_path: Path) -> None:
    """What an evaluation leaves, and a run that ended before its first step."""
    _fill(tmp_path, "config.yaml", "results.json", "log.txt", "notes.txt")
    (tmp_path / "metrics.json").touch()
    _claim(tmp_path)


def test_overwriting_removes_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    mine = ("notes.txt", "model.onnx", "inference/mine.txt", "weights/model_final.pth")
    _fill(tmp_path, *WRITTEN, *mine)
    remove_run(tmp_path)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == set(mine)


HOLDER = """
import os, sys, time
from pathlib import Path
from projects.clockdistill.engine.run_folder import lock
handle = lock(Path(sys.argv[1]))
child = os.fork()  # as a data worker, which may outlive it
if child == 0:
    time.sleep(30)
    os._exit(0)
print(child, flush=True)
time.sleep(30)
"""


def test_folder_in_use_is_refused_until_its_process_dies(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(RunError, match=rf"is in use by process {holder.pid} on .*\nFix: "):
            _claim(tmp_path, resume=True)
        holder.kill()
        holder.wait()
        with claimed(tmp_path, resume=True, overwrite=False):
            assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    finally:
        holder.kill()
        os.kill(child, 9)
        holder.stdout.close()


def test_lock_is_released(tmp_path: Path) -> None:
    lock(tmp_path).close()
    lock(tmp_path).close()
