"""Tests what a command line shows of an exception, and that all tools show it alike."""

import errno
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from torch.utils.data import DataLoader, Dataset

from projects.clockdistill.engine.arguments import one_line_errors, positive_int, tool_parser
from projects.clockdistill.engine.config_file import ROOT, ConfigError
from projects.clockdistill.engine.weights import CheckpointError
from projects.clockdistill.errors import UserError


class _Unreadable(Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> None:
        raise UserError("image 7.png is damaged.\nFix: restore it")


def from_a_worker() -> Exception:
    """Returns what torch makes of an error in a data worker: a traceback as its message."""
    with pytest.raises(UserError) as caught:
        next(iter(DataLoader(_Unreadable(), num_workers=1)))
    assert "Traceback" in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ConfigError("train.seed=null"), "error: train.seed=null"),
        (CheckpointError("x.pth is damaged"), "error: x.pth is damaged"),
        (FloatingPointError("loss_a"), "error: loss_a"),
        (ValueError("too few. Fix: take more"), "error: too few. Fix: take more"),
        (
            OSError(errno.ENOSPC, "No space left", "a.pth"),
            "error: [Errno 28] No space left: 'a.pth'",
        ),
        (FileNotFoundError("image a.png does not exist"), "error: image a.png does not exist"),
        (FileExistsError("taken. Fix: move it"), "error: taken. Fix: move it"),
        (None, "error: image 7.png is damaged.\nFix: restore it"),
    ],
)
def test_a_users_mistake_is_shown_without_a_traceback(error, shown) -> None:
    error = error or from_a_worker()
    with pytest.raises(SystemExit) as caught, one_line_errors(debug=False):
        raise error
    assert caught.value.code == shown  # which Python prints to stderr; its exit code is 1
    with pytest.raises(type(error)), one_line_errors(debug=True):
        raise error


@pytest.mark.parametrize(
    "error", [ValueError("x"), TypeError("y"), KeyError("z"), AssertionError()]
)
def test_a_fault_of_the_program_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)), one_line_errors(debug=False):
        raise error


def test_ctrl_c_ends_with_its_usual_code(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught, one_line_errors(debug=False, interrupted="go on"):
        raise KeyboardInterrupt
    assert caught.value.code == 130
    assert capsys.readouterr().err == "\ngo on\n"


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "abc", ""])
def test_a_number_that_is_not_positive_is_refused(text: str, capsys: pytest.CaptureFixture) -> None:
    parser = tool_parser("Counts.")
    parser.add_argument("--count", type=positive_int)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args([f"--count={text}"])
    assert caught.value.code == 2
    assert "expected a whole number of at least 1" in capsys.readouterr().err


def script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "path", [p for f in ("tools", "datasets") for p in sorted((ROOT / f).glob("*.py"))], ids=str
)
def test_every_tool_has_debug_and_shows_errors_in_one_line(path, monkeypatch, capsys) -> None:
    assert "one_line_errors(" in path.read_text()
    monkeypatch.setattr("sys.argv", [path.name, "--help"])
    with pytest.raises(SystemExit) as caught:
        script(path).main()
    assert caught.value.code == 0
    assert re.search(r"--debug +show the traceback", capsys.readouterr().out)
