"""The drawn tree on disk: whole or not there, and known by its stamp."""

import hashlib
import json
import logging
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from iopath.common.file_io import file_lock
from PIL import Image

from projects.clockdistill.data.kitti_tree import IMAGE_FOLDER, LABEL_FOLDER
from projects.clockdistill.data.synthkitti.style import SceneStyle

DRAWING_VERSION = 1  # raise it whenever the same (seed, index, style) draws another picture
STAMP_NAME = "synthkitti.json"
DEFAULT_FRAMES = 2000  # 8:2 -> 1,600 for training, 400 for validation
DEFAULT_SEED = 0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stamp:
    """What a tree was drawn from; written last, so a tree that has it is whole.

    Attributes:
        version: `DRAWING_VERSION` of the code that drew it.
        style: digest of the `SceneStyle`.
        seed: of all frames.
        frames: their number.
    """

    version: int
    style: str
    seed: int
    frames: int


def make_stamp(frames: int, seed: int, style: SceneStyle) -> Stamp:
    """The stamp of a tree that this code would draw."""
    digest = hashlib.sha256(json.dumps(asdict(style), sort_keys=True).encode()).hexdigest()
    return Stamp(DRAWING_VERSION, digest[:16], seed, frames)


def read_stamp(root: Path) -> Stamp | None:
    """The stamp of a tree, None if it has none.

    Raises:
        ValueError: if the stamp is damaged.
    """
    path = root / STAMP_NAME
    if not path.is_file():
        return None
    try:
        return Stamp(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"damaged stamp {path}: {error}. Fix: delete {root}.") from error


def ensure_tree(
    root: Path,
    frames: int = DEFAULT_FRAMES,
    seed: int = DEFAULT_SEED,
    style: SceneStyle | None = None,
) -> Path:
    """Draw the tree if it is not there; several processes may call this at once.

    A tree of the same seed and number of frames drawn by other code or in another style is
    redrawn. Any other folder in its place is left alone.

    Returns:
        The root of a whole tree.

    Raises:
        ValueError: if the tree there has another seed or another number of frames.
        FileExistsError: if there is something that no stamp calls a drawn tree.
    """
    wanted = make_stamp(frames, seed, style or SceneStyle())
    if _is_current(root, wanted):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(str(root)):
        # Another process may have drawn it while this one waited for the lock.
        if not _is_current(root, wanted):
            _draw_and_move(root, wanted, style or SceneStyle())
    return root


def _is_current(root: Path, wanted: Stamp) -> bool:
    if not root.exists():
        return False
    found = read_stamp(root)
    if found is None:
        raise FileExistsError(
            f"{root} holds no {STAMP_NAME}, so it was not drawn by this project and is left "
            "alone. Fix: move it away, or point DETECTRON2_DATASETS elsewhere."
        )
    if (found.seed, found.frames) != (wanted.seed, wanted.frames):
        raise ValueError(
            f"{root} was drawn with seed {found.seed} and {found.frames} frames; wanted are seed "
            f"{wanted.seed} and {wanted.frames} frames. Fix: move it away and run again."
        )
    return found == wanted


def _draw_and_move(root: Path, stamp: Stamp, style: SceneStyle) -> None:
    """Draw next to the final place, then rename: nobody ever sees half a tree."""
    for leftover in root.parent.glob(f".{root.name}.drawing-*"):  # of a run that was cut off
        shutil.rmtree(leftover)
    unfinished = root.parent / f".{root.name}.drawing-{os.getpid()}"
    _logger.info("Drawing %d frames of synthkitti (seed %d) in %s", stamp.frames, stamp.seed, root)
    start = time.perf_counter()
    write_tree(unfinished, stamp, style)
    os.sync()  # once for all files: a power cut after the renaming must not leave empty ones
    old = unfinished.with_name(f"{unfinished.name}-old")
    if root.exists():
        _logger.warning("%s was drawn by another version or style: replaced", root)
        root.rename(old)
    unfinished.rename(root)
    shutil.rmtree(old, ignore_errors=True)
    seconds = time.perf_counter() - start
    _logger.info("Drew synthkitti in %.1f s (%.0f images/s)", seconds, stamp.frames / seconds)


def write_tree(root: Path, stamp: Stamp, style: SceneStyle) -> None:
    """Draw all frames of a stamp into a new folder, the stamp last."""
    # Drawing alone needs OpenCV: a machine that was given a drawn tree trains on it without.
    from projects.clockdistill.data.synthkitti.render import draw_frame

    (root / IMAGE_FOLDER).mkdir(parents=True)
    (root / LABEL_FOLDER).mkdir(parents=True)
    for index in range(stamp.frames):
        frame = draw_frame(stamp.seed, index, style)
        name = f"{index:06d}"
        # Noise hardly compresses: as PNG a frame takes 5 times the space and 20 times the time.
        Image.fromarray(frame.image).save(root / IMAGE_FOLDER / f"{name}.jpg", quality=95)
        lines = "".join(label.as_line() + "\n" for label in frame.objects)
        (root / LABEL_FOLDER / f"{name}.txt").write_text(lines, encoding="utf-8")
    (root / STAMP_NAME).write_text(json.dumps(asdict(stamp)) + "\n", encoding="utf-8")
