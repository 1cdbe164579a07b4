"""Tests that no file which is loaded as weights executes anything, whatever it is called."""

import builtins
import functools
import io
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import save_weights
import torch
from torch import nn

from projects.clockdistill import Predictor
from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.engine.safe_pickle import UnsafePickle, load_plain
from projects.clockdistill.engine.teacher import load_teacher
from projects.clockdistill.engine.weights import CheckpointError, read
from tests.tiny_predictor import write_run
from tests.tiny_run import PLAIN, tiny_overrides

_STATE = nn.Linear(2, 2).state_dict()


class _Calls:
    """An object that calls a function when a pickle of it is read."""

    def __init__(self, function: Callable, *arguments: object, state: object = None) -> None:
        self._parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple:
        return self._parts


class _Opens:
    """An object whose state, when a pickle of it is read, writes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __setstate__(self, state: dict) -> None:
        Path(state["path"]).touch()


def objects(target: Path) -> dict[str, Callable[[], object]]:
    """Returns objects that create `target` when their pickle is read by `pickle.load`."""
    touch = f"open({str(target)!r}, 'w')"
    return {
        "os.system": lambda: _Calls(os.system, f"touch {target}"),
        "eval": lambda: _Calls(builtins.eval, touch),
        "exec": lambda: _Calls(builtins.exec, touch),
        "open": lambda: _Calls(open, str(target), "w"),
        "subprocess": lambda: _Calls(subprocess.call, ["touch", str(target)]),
        "import": lambda: _Calls(__import__, "os"),
        "partial": lambda: _Calls(functools.partial(os.system, f"touch {target}")),
        "setstate": lambda: _Opens(str(target)),
        "torch.load": lambda: _Calls(torch.load, str(target)),
        "in an array": lambda: np.array([_Calls(os.system, f"touch {target}")], dtype=object),
        "in a key": lambda: {("a", _Hashable(os.system, f"touch {target}")): 1},
        "as weights": lambda: {"weight": _Calls(builtins.eval, touch), "bias": _STATE["bias"]},
    }


class _Hashable(_Calls):
    __hash__ = object.__hash__


KINDS = tuple(objects(Path()))


def contents(payload: object, form: str) -> bytes:
    """Returns a file that holds weights and a payload."""
    content = {"model": dict(_STATE), "evil": payload}
    if form == "arrays":
        content["model"] = {key: value.numpy() for key, value in _STATE.items()}
    if isinstance(payload, dict) and "weight" in payload:
        content = {"model": payload}
    buffer = io.BytesIO()
    if form in ("torch", "legacy"):
        torch.save(content, buffer, _use_new_zipfile_serialization=form == "torch")
    elif form == "npz":
        np.savez(buffer, a=np.array([payload], dtype=object))
    elif form == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(content, 2))
            archive.writestr("archive/version", "3\n")
    else:
        pickle.dump(content, buffer, int(form) if form.isdigit() else 2)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["torch", "legacy", "zip", "arrays", "npz", "0", "2", "4", "5"])
@pytest.mark.parametrize("kind", KINDS)
def test_reading_executes_nothing(tmp_path: Path, kind: str, form: str) -> None:
    target = tmp_path / "executed"
    for name in ("weights.pth", "weights.pkl", "weights.pyth", "weights.safetensors"):
        path = tmp_path / name
        path.write_bytes(contents(objects(target)[kind](), form))
        try:
            state = read(str(path))["model"]
        except CheckpointError as error:
            assert "\nFix: " in str(error) or "holds no weights" in str(error)
            assert "weights_only" not in str(error)
        else:  # the weights alone; what would run was left out
            assert all(isinstance(value, torch.Tensor) for value in state.values())
        assert not target.exists()


def test_payloads_would_execute(tmp_path: Path) -> None:
    for kind in ("os.system", "eval", "setstate", "in an array"):
        target = tmp_path / kind.replace(" ", "_")
        pickle.loads(pickle.dumps(objects(target)[kind]()))
        assert target.exists()


@pytest.mark.parametrize(
    ("names", "code"),
    [
        # a string that is found by names alone: GLOBAL, REDUCE
        ("os system", b"cos\nsystem\n(S'true'\ntR."),
        ("numpy attribute", b"cnumpy\nload\n(S'x'\ntR."),
        ("dotted", b"\x80\x04\x8c\x05numpy\x8c\x0cdtype.__new__\x93."),
        ("extension", b"\x80\x02\x82\x01."),
        ("persistent", b"Pevil\n."),
        ("codec", b"c_codecs\nencode\n(S'x'\nS'zlib'\ntR."),
        ("import", b"cthis_module_is_not_there\nx\n."),
    ],
)
def test_names_alone_are_refused(tmp_path: Path, names: str, code: bytes) -> None:
    (tmp_path / "w.pkl").write_bytes(code)
    with pytest.raises((UnsafePickle, pickle.UnpicklingError, ValueError)):
        load_plain(tmp_path / "w.pkl")


def test_attributes_of_what_is_allowed_cannot_be_set(tmp_path: Path) -> None:
    # BUILD with (None, {name: value}) sets attributes of whatever lies on the stack
    code = b"c_codecs\nencode\n(N(S'__call__'\nS'x'\ndtb."
    (tmp_path / "w.pkl").write_bytes(code)
    with pytest.raises((AttributeError, TypeError)):
        load_plain(tmp_path / "w.pkl")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return write_run(load_config(PLAIN, tiny_overrides(tmp_path_factory.mktemp("run"))))


@pytest.mark.parametrize("kind", ["os.system", "eval", "setstate"])
@pytest.mark.parametrize("form", ["torch", "2"])
@pytest.mark.parametrize(
    "path_of_code", ["start", "evaluation", "teacher", "resume", "predictor", "weights", "tool"]
)
def test_every_way_to_load_executes_nothing(
    tmp_path: Path, run: Path, kind: str, form: str, path_of_code: str
) -> None:
    target, path = tmp_path / "executed", tmp_path / "model_final.pth"
    path.write_bytes(contents(objects(target)[kind](), form))
    model = nn.Linear(2, 2)
    if path_of_code == "start":
        _try(DetectorCheckpointer(model).load_initial, str(path))
    elif path_of_code == "evaluation":
        _try(DetectorCheckpointer(model).load_exact, str(path), "key")
    elif path_of_code == "teacher":
        _try(load_teacher, model, str(path))
    elif path_of_code == "resume":
        (tmp_path / "last_checkpoint").write_text("model_final.pth")
        _try(DetectorCheckpointer(model, str(tmp_path), trainer=nn.Linear(1, 1)).resume)
    elif path_of_code == "predictor":
        (tmp_path / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
        _try(Predictor, tmp_path)
    elif path_of_code == "weights":
        _try(Predictor, run / "config.yaml", path)
    else:
        _try(save_weights.main, [str(path), str(tmp_path / "out.safetensors")])
    assert not target.exists()


def _try(load: Callable, *arguments: object) -> None:
    try:
        load(*arguments)
    except (CheckpointError, SystemExit) as error:
        assert "weights_only" not in str(error)
