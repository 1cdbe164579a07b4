"""One reproduction at a time in one folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(folder: Path) -> Iterator[int]:
    """Holds a folder's lock. Programs that inherit the yielded file descriptor hold it too: runs
    that outlive a killed parent are not joined by others in their folders.

    Args:
        folder: made if need be.

    Raises:
        RuntimeError: if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(
                f"another tools/reproduce.py, or a run that one has started, is at work in "
                f"{folder}: wait for it, end it, or choose another folder with --output. --jobs "
                "runs several at a time"
            ) from error
        yield descriptor
    finally:
        os.close(descriptor)
