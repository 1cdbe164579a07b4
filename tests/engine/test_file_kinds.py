"""Tests that a file which holds no weights is named for what it is."""

import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from torch import nn

from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.weights import CheckpointError, local_path, read


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))
    return buffer.getvalue()


def onnx_model() -> bytes:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [2]) for name in "xy")
    graph = onnx.helper.make_graph([node], "graph", [x], [y])
    return onnx.helper.make_model(graph).SerializeToString()


def script() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), buffer)
    return buffer.getvalue()


def checkpoint() -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": nn.Linear(20, 20).state_dict()}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (lambda: b"", r"is empty \(0 bytes\)"),
        (lambda: b"\n<!DOCTYPE html><html><title>Quota exceeded</title>", r"a web page \(HTML\)"),
        (lambda: b"<HTML>\r\n<body>404</body>", r"a web page \(HTML\)"),
        (
            lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a pointer of Git LFS.*\nFix: .*git lfs pull",
        ),
        (onnx_model, "an ONNX model"),
        (script, "a TorchScript program"),
        (lambda: b'<?xml version="1.0"?>\n<net name="x">', "an OpenVINO model"),
        (lambda: json.dumps({"images": [], "annotations": []}).encode(), "JSON file with images"),
        (lambda: b"\xef\xbb\xbf[1, 2]", "a JSON file"),
        (lambda: b"train:\n  lr: 0.1\n", "a text file: train:"),
        (lambda: zipped(a=b"1", b=b"2"), "a zip archive of other files"),
        (npz, "a NumPy archive"),
        (tarred, "a tar archive"),
        (lambda: b"\x1f\x8b\x08\x00" + b"\0" * 90, "compressed with gzip"),
        (lambda: b"\x89HDF\r\n\x1a\n" + b"\0" * 90, "an HDF5 file"),
        (lambda: b"\x89PNG\r\n\x1a\n" + b"\0" * 90, "a PNG image"),
        (lambda: b"\0" * 5000, "damaged: its first 4096 bytes are 0"),
        (lambda: bytes(range(200, 256)) * 9, "damaged or not a checkpoint: it begins with"),
        (lambda: checkpoint()[:-30], "damaged: a part of its"),
        (lambda: checkpoint()[:1000], "damaged: a part of its"),
    ],
)
def test_what_holds_no_weights_is_named(tmp_path: Path, content, what: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content())
    with pytest.raises(CheckpointError, match=what) as caught:
        DetectorCheckpointer(nn.Linear(2, 2)).load_initial(str(path))
    message = str(caught.value)
    assert str(path) in message
    assert "\nFix: " in message
    assert "weights_only" not in message
    assert len(message.splitlines()) <= 3


def test_folder_is_refused_with_the_file_in_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"key=.* is a folder, expected a file\.\nFix: name"):
        local_path(str(tmp_path), "key")
    (tmp_path / "model_final.pth").write_bytes(checkpoint())
    with pytest.raises(CheckpointError, match=r"Fix: use .*model_final\.pth"):
        local_path(str(tmp_path), "key")


@pytest.mark.parametrize("suffix", ["pth", "bin", "safetensors", "pkl", "tar"])
def test_content_decides_and_not_the_suffix(tmp_path: Path, suffix: str) -> None:
    weights = nn.Linear(3, 2).state_dict()
    one, other = tmp_path / f"one.{suffix}", tmp_path / f"other.{suffix}"
    safetensors.torch.save_file(weights, one)
    torch.save(weights, other)
    legacy = tmp_path / f"legacy.{suffix}"
    torch.save(weights, legacy, _use_new_zipfile_serialization=False)
    for path in (one, other, legacy):
        assert torch.equal(read(str(path))["model"]["weight"], weights["weight"])


def test_a_checkpoint_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "weights.pth", checkpoint()
    for percent in range(100):
        path.write_bytes(whole[: len(whole) * percent // 100])
        with pytest.raises(CheckpointError, match=re.escape(str(path))):
            read(str(path))
