"""Pictures and videos that a command line names: files, folders and globs."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from projects.clockdistill.errors import UserError

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")


@dataclass(frozen=True)
class Input:
    """One picture or video.

    Attributes:
        path: absolute.
        name: of the file; if several inputs have files of one name, its path from the folder that
            all inputs share, with "/".
    """

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether the file's name is that of a video."""
        return self.path.suffix.lower() in VIDEOS


def find_inputs(arguments: Sequence[str]) -> list[Input]:
    """Returns the files that the arguments name, each once, in their order.

    Args:
        arguments: files; folders, of which the pictures and videos directly inside are taken; or
            globs, in which ** stands for any folders.

    Raises:
        UserError: if an argument names nothing; with the fix.
    """
    paths: dict[Path, None] = {}
    for argument in arguments:
        found = _files(argument)
        if not found:
            raise UserError(
                f"no picture or video found: {argument}\nFix: name files, a folder that holds them "
                f"({', '.join((*PICTURES, *VIDEOS))}), or a glob"
            )
        paths |= dict.fromkeys(Path(os.path.abspath(path)) for path in found)
    if len({path.name.casefold() for path in paths}) == len(paths):
        return [Input(path, path.name) for path in paths]
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    return [Input(path, path.relative_to(folder).as_posix()) for path in paths]


def require_one_picture(path: str | Path) -> None:
    """Refuses a file of several pictures, of which only the first would be read.

    Files that cannot be opened pass; reading them tells why.

    Raises:
        ValueError: for an animation or a file of several pages; with the fix.
    """
    try:
        with Image.open(path) as image:
            # the second picture of MPO, a camera's JPEG, is a preview or the other eye's
            count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return
    if count > 1:
        raise ValueError(
            f"{path} holds {count} pictures; only the first would be read.\n"
            "Fix: split it into one file per picture, or convert an animation to MP4"
        )


def _files(argument: str) -> list[Path]:
    path = Path(argument).expanduser()
    if path.is_file():
        return [path]
    inside = path.iterdir() if path.is_dir() else map(Path, glob.glob(str(path), recursive=True))
    known = (*PICTURES, *VIDEOS)
    return sorted(file for file in inside if file.suffix.lower() in known and file.is_file())
