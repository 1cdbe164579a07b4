"""Which checkpoint of a run a resumed run starts from."""

import logging
import re
from pathlib import Path

from projects.clockdistill.engine.file_kinds import NotWeights, zip_parts
from projects.clockdistill.engine.weights import CheckpointError

logger = logging.getLogger(__name__)

_PERIODIC = re.compile(r"model_\d{7,}\.pth")


def newest_whole(folder: Path) -> str:
    """Returns the path of the newest checkpoint that is whole, or "" if there is none at all.

    Raises:
        CheckpointError: if there are checkpoints and all are damaged.
    """
    checkpoints = resumable(folder)
    damaged = []
    for path in checkpoints:
        if is_whole(path):
            if damaged:
                logger.warning(
                    "%s is missing or damaged (cut, or changed on the disk): resuming from %s, the "
                    "one before it",
                    ", ".join(damaged),
                    path.name,
                )
            return str(path)
        damaged.append(path.name)
    if damaged:
        raise CheckpointError(
            f"{folder}: no checkpoint is whole; missing or damaged: {', '.join(damaged)}.\n"
            "Fix: bring one back from a copy, or start again with --overwrite instead of --resume"
        )
    return ""


def resumable(folder: Path) -> list[Path]:
    """Returns the run's full checkpoints, the newest first, whether they are whole or not."""
    record = folder / "last_checkpoint"
    name = record.read_text().strip() if record.is_file() else ""
    found = periodic(folder)[::-1]
    if name:  # by it, and not by time: a copied folder has other times
        last = folder / name
        older = [path for path in found if path != last]
        if _PERIODIC.fullmatch(name):  # a run that was told to resume earlier than it got
            older = [path for path in older if path.name < name] or older
        return [last, *older]
    return found


def periodic(folder: Path) -> list[Path]:
    """Returns the periodic checkpoints in the order of their steps."""
    return sorted(p for p in folder.glob("model_*.pth") if _PERIODIC.fullmatch(p.name))


def is_whole(path: Path) -> bool:
    """Returns whether a file of `torch.save` has its full length and every part its checksum."""
    try:
        return any(name.endswith("data.pkl") for name in zip_parts(path))
    except (NotWeights, OSError):
        return False
