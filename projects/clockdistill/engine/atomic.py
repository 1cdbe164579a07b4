"""Atomic writes: a file has either its old or its new content.

By hand: neither torch nor detectron2 writes a checkpoint so that a kill cannot destroy it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """Opens a temporary file that replaces `path` once it is complete and on disk.

    An error or a kill inside the block leaves the previous file untouched. The name of the
    temporary file is fixed, so the next write overwrites what a killed process left.

    Args:
        path: the file to write.
        mode: "wb" or "w".
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, mode) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # a folder that is lost or read-only
            temporary.unlink()
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Makes the rename itself survive a power failure, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse to sync a directory
        pass
    finally:
        os.close(descriptor)
