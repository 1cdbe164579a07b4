"""One folder, one run: what a run writes, and who may write there."""

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from detectron2.utils import comm

from projects.clockdistill.errors import UserError

logger = logging.getLogger(__name__)

LOCK = "run.lock"
# What only training writes: a folder with one of these holds a run.
_TRAINED = ("last_checkpoint", "model_*.pth", "metrics.json")
# Everything that a run writes besides its lock.
_WRITTEN = (
    *_TRAINED,
    "model_best.json",
    "loggers.json",
    "config.yaml",
    "log.txt*",
    "results.json",
    "results.md",
    "report.html",
    "inference/*.json",
    "events.out.tfevents.*",
    "nonfinite/*.pth",
    ".*.tmp",
)


class RunError(UserError):
    """A run that cannot start or go on; the message says how it can."""


def found_run(folder: Path) -> str:
    """Returns the name of a file that shows that a folder holds a run, or ""."""
    files = (path for pattern in _TRAINED for path in sorted(folder.glob(pattern)))
    return next((path.name for path in files if path.stat().st_size), "")


def remove_run(folder: Path) -> None:
    """Removes what a run wrote, and nothing else."""
    for pattern in _WRITTEN:
        for path in folder.glob(pattern):
            path.unlink()
    for name in ("inference", "nonfinite"):
        with suppress(OSError):  # it does not exist, or holds other files
            (folder / name).rmdir()


@contextmanager
def claimed(folder: str | Path, *, resume: bool, overwrite: bool) -> Iterator[None]:
    """Keeps other runs out of a folder for the duration of the block.

    The main process takes the lock; the other processes of the run wait for its outcome.

    Args:
        folder: created if necessary.
        resume: whether a run that is there goes on.
        overwrite: whether a run that is there is removed.

    Raises:
        RunError: in every process, if another run is busy there, or there is a run that is neither
            to go on nor to be removed.
    """
    handle, refusal = None, ""
    if comm.is_main_process():
        try:
            handle = _claim(Path(folder), resume=resume, overwrite=overwrite)
        except (RunError, OSError) as error:
            refusal = str(error)
    refusal = comm.all_gather(refusal)[0]
    if refusal:
        raise RunError(refusal)
    try:
        yield
    finally:
        if handle is not None:
            handle.close()  # which releases the lock; a process that dies releases it too


def _claim(folder: Path, *, resume: bool, overwrite: bool) -> IO:
    if resume and overwrite:
        raise RunError("--resume continues a run, --overwrite removes it. Fix: give one of them")
    folder.mkdir(parents=True, exist_ok=True)
    handle = lock(folder)
    found = found_run(folder)
    if found and overwrite:
        remove_run(folder)
    elif found and not resume:
        handle.close()
        raise RunError(
            f"train.output_dir={folder} holds a run already ({found}); expected a folder without "
            "one.\nFix: add --resume to continue it or --overwrite to replace it, or set "
            "train.output_dir to another folder"
        )
    return handle


def lock(folder: Path) -> IO:
    """Locks a folder until the returned handle is closed.

    The lock is a POSIX record lock: unlike flock's, it is not inherited by data workers, which
    outlive a killed run by some seconds.

    Raises:
        RunError: if another process holds the lock.
    """
    handle = open(folder / LOCK, "a+")  # noqa: SIM115  whoever locks closes it
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        handle.seek(0)
        owner = handle.read().strip() or "another process"
        handle.close()
        raise RunError(
            f"{folder} is in use by {owner}; two runs in one folder would overwrite each other.\n"
            "Fix: wait for it or end it, or set train.output_dir to another folder"
        ) from error
    except OSError as error:  # some network file systems have no locks
        logger.warning("%s cannot be locked (%s): start no second run there", folder, error)
        return handle
    handle.truncate(0)
    handle.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    handle.flush()
    return handle
