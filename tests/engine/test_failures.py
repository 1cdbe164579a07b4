"""Tests that what fails from outside ends a run in one line, with its last checkpoint whole."""

import errno
import os
from pathlib import Path

import pytest
import torch
import train_net

from projects.clockdistill.engine.failures import explained
from projects.clockdistill.engine.last_checkpoint import is_whole
from projects.clockdistill.engine.run_folder import RunError
from projects.clockdistill.engine.trainer import Trainer
from tests.tiny_run import PLAIN, tiny_overrides


def _raise(number: int, name: str | None = None) -> None:
    raise OSError(number, os.strerror(number), name)


def _explained(folder: Path, error: Exception) -> str:
    with pytest.raises(RunError) as caught, explained(folder):
        raise error
    message = str(caught.value)
    assert len(message.splitlines()) == 2
    return message


def test_disk_errors_name_file_cause_state_and_fix(tmp_path: Path) -> None:
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    message = _explained(tmp_path, OSError(errno.ENOSPC, "No space left on device"))
    assert f"cannot write {tmp_path}: No space left on device." in message
    assert "The last checkpoint is whole: model_0000003.pth." in message
    assert message.endswith("Fix: make room on the disk, then run the same command with --resume")
    file = os.fsencode(tmp_path / "metrics.json")  # as TensorBoard names files
    message = _explained(tmp_path, PermissionError(errno.EACCES, "Permission denied", file))
    assert f"cannot write {tmp_path / 'metrics.json'}: Permission denied" in message


def test_disk_error_behind_an_error_of_torch_is_found(tmp_path: Path) -> None:
    try:
        try:
            _raise(errno.ENOSPC)
        finally:
            raise RuntimeError("unexpected pos 189568 vs 189464")
    except RuntimeError as error:
        assert "No space left" in _explained(tmp_path, error)


def test_data_worker_and_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
    assert "a data worker ended from outside" in _explained(tmp_path, killed)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    message = _explained(tmp_path, RuntimeError("[pair.cc:545] Connection closed by peer"))
    assert "another process of this run ended" in message


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        FileNotFoundError(errno.ENOENT, "No such file", "/data/image.png"),
        OSError("no number"),
    ],
)
def test_other_errors_stay_what_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, explained(tmp_path):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_disk_that_fills_up_while_saving_costs_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    overrides = [*tiny_overrides(tmp_path), "train.max_iter=4", "train.eval_period=0"]
    arguments = ["--config-file", PLAIN, *overrides, "train.checkpointer.period=2"]
    run_step = Trainer.run_step

    def fill_before_the_last_step(trainer: Trainer) -> None:
        if trainer.iter == 3:
            monkeypatch.setattr(os, call, lambda *_: _raise(errno.ENOSPC))
        run_step(trainer)

    monkeypatch.setattr(Trainer, "run_step", fill_before_the_last_step)
    with pytest.raises(SystemExit, match="cannot write .*No space left"):
        train_net.main(arguments)
    monkeypatch.undo()
    output = tmp_path / "output"
    assert (output / "last_checkpoint").read_text() == "model_0000001.pth"
    assert is_whole(output / "model_0000001.pth")
    train_net.main([*arguments[:2], "--resume", *arguments[2:]])
    assert torch.load(output / "model_final.pth", weights_only=True)["trainer"]["iteration"] == 3
