"""Frames -> train and val: the seeded 8:2 split, or the user's split files."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from projects.clockdistill.errors import UserError

TRAIN_SHARE = 0.8  # CLoCKDistill (arXiv:2502.10683), section 4.1: "8:2"
SPLIT_SEED = 0


def split_by_seed(frames: Sequence[str], seed: int = SPLIT_SEED) -> dict[str, list[str]]:
    """Splits frames 8:2 by the SHA-256 digest of "seed:frame".

    Digests, not a library's shuffle, so that the split is the same under every version of
    Python and NumPy and in every order of the file system. KITTI's 7,481 frames give
    5,985 / 1,496.

    Args:
        frames: names without suffix.
        seed: another seed gives another split.

    Returns:
        "train" and "val", each sorted; val has at least one frame if there are two or more.
    """
    ranked = sorted(frames, key=lambda frame: hashlib.sha256(f"{seed}:{frame}".encode()).digest())
    num_train = min(round(TRAIN_SHARE * len(ranked)), max(len(ranked) - 1, 1))
    return {"train": sorted(ranked[:num_train]), "val": sorted(ranked[num_train:])}


def split_by_files(frames: Sequence[str], train_file: Path, val_file: Path) -> dict[str, list[str]]:
    """Splits frames as two text files say, one frame name per line (KITTI's `ImageSets` format).

    Returns:
        "train" and "val" in the files' own order; frames in neither file are left out.

    Raises:
        FileNotFoundError: if a file is missing.
        UserError: if a file is empty, names a frame that does not exist or twice, or both
            files name the same frame.
    """
    known = set(frames)
    split = {}
    for name, path in (("train", Path(train_file)), ("val", Path(val_file))):
        if not path.is_file():
            raise FileNotFoundError(
                f"split file {path} for {name!r} does not exist. "
                "Fix: write it, one frame name per line, or use the seeded split "
                "(unset CLOCKDISTILL_KITTI_SPLIT)."
            )
        split[name] = _read_split_file(path, known)
    if shared := sorted(set(split["train"]) & set(split["val"])):
        raise UserError(
            f"{train_file} and {val_file} share {len(shared)} frames, e.g. {shared[0]}. "
            "Fix: remove them from one file."
        )
    return split


def _read_split_file(path: Path, known: set[str]) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors may write a byte-order mark
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file ({error}). Fix: save it as UTF-8.") from error
    first_line = {}
    for number, line in enumerate(text.splitlines(), start=1):
        frame = line.strip()
        if not frame:
            continue
        if frame not in known:
            raise UserError(
                f"{path}:{number}: unknown frame {frame!r}. "
                "Fix: give names of image_2 without suffix, e.g. 000042."
            )
        if frame in first_line:
            raise UserError(
                f"{path}:{number}: frame {frame!r} is already in line {first_line[frame]}. "
                "Fix: remove one."
            )
        first_line[frame] = number
    if not first_line:
        raise UserError(f"{path}: no frames. Fix: write one frame name per line.")
    return list(first_line)
