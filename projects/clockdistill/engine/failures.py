"""What ends a run from outside, said in one line: disks, data workers, other processes."""

import errno
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist

from projects.clockdistill.engine.run_folder import RunError

_ADVICE = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room within the quota",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EROFS: "make the file system writable",
    errno.EACCES: "make the folder writable",
    errno.EPERM: "make the folder writable",
    errno.EIO: "check the disk",
    errno.ENOENT: "bring the folder back",
    errno.ESTALE: "mount the file system again",
}
_DEAD_WORKER = re.compile(r"DataLoader worker")
_DEAD_PEER = re.compile(
    r"Connection (closed|reset|refused)|[Tt]imed out waiting|Broken pipe|NCCL|gloo|Socket Timeout"
)


@contextmanager
def explained(folder: str | Path) -> Iterator[None]:
    """Turns what fails from outside during a run into a `RunError` that says how to go on.

    Args:
        folder: of the run.
    """
    hook = threading.excepthook
    threading.excepthook = _quiet_about_disks
    try:
        yield
    except (OSError, RuntimeError) as error:
        text = _explanation(error, Path(folder))
        if text is None:
            raise
        raise RunError(text) from error
    finally:
        threading.excepthook = hook


def _quiet_about_disks(arguments: threading.ExceptHookArgs) -> None:
    """Leaves out the traceback of TensorBoard's thread, which raises again in the main thread."""
    if not isinstance(arguments.exc_value, OSError):
        threading.__excepthook__(arguments)


def _explanation(error: Exception, folder: Path) -> str | None:
    os_error = _os_error(error)
    if os_error is not None and _writes(os_error, folder):
        file = os.fsdecode(os_error.filename or folder)
        advice = _ADVICE.get(os_error.errno, f"make {folder} writable")
        return (
            f"cannot write {file}: {os_error.strerror}. {_state(folder)}\n"
            f"Fix: {advice}, then run the same command with --resume"
        )
    if not isinstance(error, RuntimeError):
        return None
    first_line = str(error).partition("\n")[0]
    if _DEAD_WORKER.search(first_line):
        return (
            f"a data worker ended from outside, often for lack of memory ({first_line}). "
            f"{_state(folder)}\nFix: run the same command with --resume, and lower "
            "dataloader.train.num_workers if it happens again"
        )
    if dist.is_initialized() and _DEAD_PEER.search(str(error)):
        return (
            f"another process of this run ended or cannot be reached ({first_line[:200]}). "
            f"{_state(folder)}\nFix: see its output, then start all processes with --resume"
        )
    return None


def _os_error(error: BaseException | None) -> OSError | None:
    """Returns the error of the operating system; torch.save hides it behind a RuntimeError."""
    while error is not None and not (isinstance(error, OSError) and error.errno is not None):
        error = error.__cause__ or error.__context__
    return error


def _writes(error: OSError, folder: Path) -> bool:
    """Returns whether an error concerns what a run writes, rather than data that it reads."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        return True
    if error.filename is None:
        return error.errno in _ADVICE
    path = Path(os.fsdecode(error.filename)).absolute()
    return folder.absolute() in (path, *path.parents)


def _state(folder: Path) -> str:
    """Returns which checkpoint a resumed run would start from."""
    try:
        return f"The last checkpoint is whole: {(folder / 'last_checkpoint').read_text()}."
    except PermissionError:
        return "The folder cannot be read."
    except OSError:
        return "There is no checkpoint in the folder." if folder.is_dir() else "The folder is gone."
