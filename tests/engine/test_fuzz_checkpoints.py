"""Damaged weight files: the weights as they were written, or a message that names the file."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given

from projects.clockdistill.engine import weights
from projects.clockdistill.engine.weights import CheckpointError
from tests.fuzzing import damaged, fuzz

STATE = {
    "backbone.conv1.weight": torch.linspace(-1, 1, 54).reshape(2, 3, 3, 3),
    "head.bias": torch.linspace(0, 1, 5),
}


def _torch_file() -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": STATE, "iteration": 7}, buffer)
    return buffer.getvalue()


FILES = {
    "run.pth": _torch_file(),
    "student.safetensors": safetensors.torch.save(STATE),
    "zoo.pkl": pickle.dumps({"model": {key: np.asarray(v) for key, v in STATE.items()}}),
}
HAS_CHECKSUMS = ("run.pth",)  # the other two formats cannot tell that a number changed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@fuzz(400)
@given(file=damaged(FILES))
def test_a_damaged_file_is_read_or_named(folder: Path, file: tuple[str, bytes]) -> None:
    name, content = file
    path = folder / name
    path.write_bytes(content)
    try:
        found = weights.read(str(path))["model"]
    except CheckpointError as error:
        assert str(path) in str(error)
        assert len(str(error).splitlines()) <= 3
        assert "weights_only" not in str(error)
        return
    assert all(isinstance(value, torch.Tensor) for value in found.values())
    if name in HAS_CHECKSUMS:
        for key, value in found.items():
            torch.testing.assert_close(value, STATE[key], rtol=0, atol=0)


@pytest.mark.parametrize("name", sorted(FILES))
def test_the_whole_file_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name])
    torch.testing.assert_close(weights.read(str(path))["model"], STATE, rtol=0, atol=0)


def test_a_changed_number_is_found(tmp_path: Path) -> None:
    content = bytearray(FILES["run.pth"])
    number = STATE["backbone.conv1.weight"].numpy().tobytes()[:16]
    content[content.index(number) + 3] ^= 1
    path = tmp_path / "run.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"run\.pth is damaged: a checksum does not fit"):
        weights.read(str(path))
