"""Tests that a damaged checkpoint is never resumed from and the one before it is."""

from pathlib import Path

import pytest
import torch
from torch import nn

from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.last_checkpoint import newest_whole
from projects.clockdistill.engine.weights import CheckpointError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with the checkpoints of steps 2 and 4, the weights of which are 2 and 4."""
    for step in (2, 4):
        model = nn.Linear(40, 40)
        nn.init.constant_(model.weight, step)
        DetectorCheckpointer(model, str(tmp_path)).save(f"model_{step - 1:07d}")
    return tmp_path


def _resumed_step(folder: Path) -> float:
    model = nn.Linear(40, 40)
    assert DetectorCheckpointer(model, str(folder)).resume()
    return model.weight.mean().item()


def test_cut_at_every_percent_gives_the_checkpoint_before(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert _resumed_step(run) == 4
    path = run / "model_0000003.pth"
    whole = path.read_bytes()
    for length in [*(len(whole) * percent // 100 for percent in range(100)), len(whole) - 1]:
        path.write_bytes(whole[:length])
        caplog.clear()
        assert _resumed_step(run) == 2, length
        assert "model_0000003.pth is missing or damaged" in caplog.text


def test_changed_byte_gives_the_checkpoint_before(run: Path) -> None:
    path = run / "model_0000003.pth"
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((40,), 4.0).numpy().tobytes())] ^= 1
    path.write_bytes(content)
    assert _resumed_step(run) == 2


def test_missing_files(run: Path) -> None:
    (run / "last_checkpoint").unlink()  # killed between the checkpoint and this file
    assert _resumed_step(run) == 4
    (run / "last_checkpoint").write_text("model_0000003.pth")
    (run / "model_0000003.pth").unlink()
    assert _resumed_step(run) == 2
    assert newest_whole(run / "inference") == ""


def test_step_that_last_checkpoint_names_is_taken_and_then_an_earlier_one(run: Path) -> None:
    DetectorCheckpointer(nn.Linear(40, 40), str(run)).save("model_0000005")
    (run / "last_checkpoint").write_text("model_0000003.pth")
    assert _resumed_step(run) == 4
    (run / "model_0000003.pth").write_bytes(b"")
    assert _resumed_step(run) == 2


def test_only_damaged_checkpoints_are_refused(run: Path) -> None:
    for path in run.glob("*.pth"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError) as caught:
        DetectorCheckpointer(nn.Linear(40, 40), str(run)).resume()
    message = str(caught.value)
    assert "damaged: model_0000003.pth, model_0000001.pth.\nFix: " in message
