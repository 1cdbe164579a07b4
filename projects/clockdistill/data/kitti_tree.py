"""KITTI's folders -> frames with image path, size and labelled objects."""

import functools
from dataclasses import dataclass
from pathlib import Path

from projects.clockdistill.data.image_header import read_image_size
from projects.clockdistill.data.kitti_labels import KittiObject, parse_label_file

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
class TreeListing:
    """Files of a tree, none of them opened.

    Attributes:
        images: frame name -> image file.
        labels: frame name -> label file.
        unexpected: files and folders that are neither, and second images of a frame.
    """

    images: dict[str, Path]
    labels: dict[str, Path]
    unexpected: tuple[Path, ...]


def list_tree(root: Path) -> TreeListing:
    """Lists the images and label files of a KITTI tree.

    Raises:
        FileNotFoundError: if `training/image_2` or `training/label_2` is missing.
    """
    for folder in (IMAGE_FOLDER, LABEL_FOLDER):
        if not (root / folder).is_dir():
            raise FileNotFoundError(
                f"folder {root / folder} does not exist. Fix: arrange the data as in "
                "datasets/README.md, or set DETECTRON2_DATASETS to the folder that contains it."
            )
    images, labels, unexpected = {}, {}, []
    for path in sorted((root / IMAGE_FOLDER).iterdir()):
        is_image = path.suffix.lower() in IMAGE_SUFFIXES and path.stem not in images
        if is_image and path.is_file():
            images[path.stem] = path
        else:
            unexpected.append(path)
    for path in sorted((root / LABEL_FOLDER).iterdir()):
        if path.suffix == ".txt" and path.is_file():
            labels[path.stem] = path
        else:
            unexpected.append(path)
    return TreeListing(images, labels, tuple(unexpected))


@functools.lru_cache(maxsize=8)
def read_tree(root: Path) -> tuple[KittiFrame, ...]:
    """Reads all frames of a KITTI tree; the result is cached.

    Images are not decoded; `datasets/prepare_kitti.py --decode` does that.

    Raises:
        FileNotFoundError: if a folder is missing or there is no image.
        ValueError: if an image has no label file or the reverse, labels are malformed, an image
            header is unreadable or a box lies outside its image; every case with its path.
    """
    listing = list_tree(root)
    if not listing.images:
        raise FileNotFoundError(f"no image in {root / IMAGE_FOLDER}")
    problems = missing_partners(listing)
    frames = []
    for index, (name, image_path) in enumerate(sorted(listing.images.items())):
        if name in listing.labels:
            frame, frame_problems = read_frame(name, index, image_path, listing.labels[name])
            problems += frame_problems
            frames += [frame] if frame else []
    if problems:
        shown = "\n".join(problems[:_SHOWN_PROBLEMS])
        raise ValueError(
            f"{len(problems)} problems in the KITTI tree {root}:\n{shown}\n"
            f"`python datasets/prepare_kitti.py {root}` lists them all."
        )
    return tuple(frames)


def missing_partners(listing: TreeListing) -> list[str]:
    """Returns a message per image without a label file and per label file without an image."""
    problems = [
        f"{path}: no label file {name}.txt in {LABEL_FOLDER}. "
        "Fix: add it (empty if the image shows no object) or remove the image."
        for name, path in listing.images.items()
        if name not in listing.labels
    ]
    problems += [
        f"{path}: no image {name}.png or .jpg in {IMAGE_FOLDER}. Fix: add it or remove the label."
        for name, path in listing.labels.items()
        if name not in listing.images
    ]
    return problems


def read_frame(
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
        if left >= width or top >= height or right <= 0 or bottom <= 0:
            problems.append(
                f"{label_path}: the box {item.box_xyxy} of a {item.type} lies outside the image "
                f"of {width} x {height}. Fix: give the box in pixels of this image."
            )
    return KittiFrame(name, index, image_path, width, height, tuple(objects)), problems
