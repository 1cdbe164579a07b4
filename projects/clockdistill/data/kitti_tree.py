"""KITTI's folders -> frames with image path, size and labelled objects."""

import functools
from dataclasses import dataclass
from pathlib import Path

from projects.clockdistill.data.annotations import clip_xywh
from projects.clockdistill.data.image_header import read_image_size
from projects.clockdistill.data.kitti_labels import KittiObject, parse_label_file
from projects.clockdistill.errors import UserError

IMAGE_FOLDER = Path("training/image_2")
LABEL_FOLDER = Path("training/label_2")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_SHOWN_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class KittiFrame:
    """One labelled image.

    Attributes:
        name: file name without suffix, e.g. "000042".
        index: position in the sorted list of all frames; for official frames, their number.
        image_path: the image file.
        width, height: pixels, from the image's header.
        objects: all lines of its label file, DontCare included.
    """

    name: str
    index: int
    image_path: Path
    width: int
    height: int
    objects: tuple[KittiObject, ...]


@dataclass(frozen=True, slots=True)
class TreeReport:
    """Content of a tree.

    Attributes:
        frames: all frames whose image header and label file could be read, sorted by name.
        problems: one message each, with path and fix.
        unexpected: files and folders that are neither image nor label file, and second images of
            a frame.
    """

    frames: tuple[KittiFrame, ...]
    problems: tuple[str, ...]
    unexpected: tuple[Path, ...]


@functools.lru_cache(maxsize=8)
def read_tree(root: Path) -> tuple[KittiFrame, ...]:
    """Reads all frames of a KITTI tree; the result is cached.

    Raises:
        FileNotFoundError: if a folder is missing.
        UserError: if `scan_tree` reports problems; every one with its path.
    """
    report = scan_tree(root)
    if report.problems:
        shown = "\n".join(report.problems[:_SHOWN_PROBLEMS])
        raise UserError(
            f"{len(report.problems)} problems in the KITTI tree {root}:\n{shown}\n"
            f"`python datasets/prepare_kitti.py {root}` lists them all."
        )
    return report.frames


def scan_tree(root: Path) -> TreeReport:
    """Reads all frames of a KITTI tree that can be read.

    Problems are: no image, an image without a label file or the reverse, malformed labels, an
    unreadable image header, a box outside its image. Images are not decoded;
    `datasets/check.py --decode` does that.

    Raises:
        FileNotFoundError: if `training/image_2` or `training/label_2` is missing.
    """
    images, other_files = _list_folder(root / IMAGE_FOLDER, IMAGE_SUFFIXES)
    labels, more_files = _list_folder(root / LABEL_FOLDER, (".txt",))
    problems = [] if images else [f"{root / IMAGE_FOLDER}: no images. Fix: add them."]
    problems += [
        f"{path}: no label file {name}.txt in {LABEL_FOLDER}. "
        "Fix: add it (empty if the image shows no object) or remove the image."
        for name, path in images.items()
        if name not in labels
    ]
    problems += [
        f"{path}: no image {name}.png or .jpg in {IMAGE_FOLDER}. Fix: add it or remove the label."
        for name, path in labels.items()
        if name not in images
    ]
    frames = []
    for index, (name, image_path) in enumerate(sorted(images.items())):
        if name in labels:
            frame, frame_problems = _read_frame(name, index, image_path, labels[name])
            problems += frame_problems
            frames += [frame] if frame else []
    return TreeReport(tuple(frames), tuple(problems), (*other_files, *more_files))


def _list_folder(folder: Path, suffixes: tuple[str, ...]) -> tuple[dict[str, Path], list[Path]]:
    """Returns frame name -> file with one of the suffixes, and all other files and folders."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"folder {folder} does not exist. Fix: arrange the data as in "
            "datasets/README.md, or set DETECTRON2_DATASETS to the folder that contains it."
        )
    files: dict[str, Path] = {}
    others = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and path.stem not in files and path.is_file():
            files[path.stem] = path
        else:
            others.append(path)
    return files, others


def _read_frame(
    name: str, index: int, image_path: Path, label_path: Path
) -> tuple[KittiFrame | None, list[str]]:
    """Reads a frame.

    Returns:
        The frame (None if its image header is unreadable) and all problems found.
    """
    objects, problems = parse_label_file(label_path)
    try:
        width, height = read_image_size(image_path)
    except ValueError as error:
        return None, [*problems, str(error)]
    for item in objects:
        left, top, right, bottom = item.box_xyxy
        if clip_xywh((left, top, right - left, bottom - top), width, height) is None:
            problems.append(
                f"{label_path}: the box {item.box_xyxy} of a {item.type} lies outside the image "
                f"of {width} x {height}. Fix: give the box in pixels of this image."
            )
    return KittiFrame(name, index, image_path, width, height, tuple(objects)), problems
