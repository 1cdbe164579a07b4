"""Memory of the datasets that passed their check, so that the next start need not repeat it.

One JSON file per dataset and kind of check in `$XDG_CACHE_HOME/clockdistill/passed_checks`, by
default below `~/.cache`. A dataset is known by its dicts and by size and time of its image files.
"""

import contextlib
import hashlib
import json
import os
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from projects.clockdistill.data.parallel import map_chunks
from projects.clockdistill.engine.atomic import atomic_write

_KEPT = 50  # files; the oldest go
_RULES = (
    "annotation_rules.py",
    "annotations.py",
    "coco_content.py",
    "dataset_check.py",
    "dataset_table.py",
    "image_header.py",
    "image_pixels.py",
    "registered.py",
)


def fingerprint(dicts: Sequence[dict]) -> str | None:
    """Returns a digest of a dataset and of the rules that it is checked by.

    Args:
        dicts: detectron2's dataset dicts.

    Returns:
        None if the dicts hold what cannot be written as bytes.
    """
    digest = _digest_of_rules()
    try:
        for part in map_chunks(_describe, dicts):
            digest.update(part)
    except (pickle.PicklingError, AttributeError, TypeError, RecursionError):
        return None
    return digest.hexdigest()


def file_fingerprint(path: Path) -> str:
    """Returns a digest of a file's path, size and time and of the rules that it is checked by."""
    digest = _digest_of_rules()
    status = path.stat()
    digest.update(f"{path.absolute()} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


def _digest_of_rules() -> "hashlib._Hash":
    digest = hashlib.sha256()
    for name in _RULES:  # another version may find more
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest


def _describe(dicts: Sequence[dict]) -> bytes:
    # only written, never read: bytes of any Python object
    return pickle.dumps((dicts, list(_file_states(dicts))), protocol=5)


def _file_states(dicts: Sequence[dict]) -> Iterator[tuple[int, int] | None]:
    for record in dicts:
        try:
            status = os.stat(record["file_name"])
        except (OSError, ValueError, KeyError, TypeError):
            yield None
        else:
            yield status.st_size, status.st_mtime_ns


def recall(dataset: str | None, settings: Sequence) -> dict[str, Any] | None:
    """Returns what was remembered for a dataset; None if nothing was.

    Args:
        dataset: its fingerprint.
        settings: what else the result depends on; only what JSON can hold.
    """
    if dataset is None:
        return None
    try:
        content = json.loads(_file(dataset, settings).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def remember(dataset: str | None, settings: Sequence, content: dict[str, Any]) -> None:
    """Writes the result of a check that passed; without a place to write, does nothing."""
    if dataset is None:
        return
    with contextlib.suppress(OSError, TypeError, ValueError):
        path = _file(dataset, settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, "w") as handle:
            json.dump(content, handle)
        files = sorted(path.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for old in files[:-_KEPT]:
            old.unlink(missing_ok=True)


def _file(dataset: str, settings: Sequence) -> Path:
    key = hashlib.sha256(json.dumps([dataset, *settings]).encode()).hexdigest()
    return folder() / f"{key[:32]}.json"


def folder() -> Path:
    """Returns where the files are."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "clockdistill" / "passed_checks"
