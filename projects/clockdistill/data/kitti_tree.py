"""KITTI's folder tree -> frames: image path, size and labelled objects of each."""

import functools
from dataclasses import dataclass
from pathlib import Path

from .image_header import read_image_size
from .kitti_labels import KittiObject, parse_label_file

IMAGE_FOLDER = Path("training/image_2")
LABEL_FOLDER = Path("training/label_2")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_SHOWN_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class KittiFrame:
    """One labelled image.

    Attributes:
        name: file name without suffix, e.g. "000042".
        index: place in the sorted list of all frames; the official frames' own number.
        image_path: the image file.
        width, height: pixels, from the image's header.
        objects: everything its label file names, DontCare included.
    """

    name: str
    index: int
    image_path: Path
    width: int
    height: int
    objects: tuple[KittiObject, ...]


@dataclass(frozen=True, slots=True)
class TreeListing:
    """What lies in a tree, without opening a file.

    Attributes:
        images: frame name -> image file.
        labels: frame name -> label file.
        strangers: files and folders that are neither, and second images of one frame.
    """

    images: dict[str, Path]
    labels: dict[str, Path]
    strangers: tuple[Path, ...]


def list_tree(root: Path) -> TreeListing:
    """List the images and label files of a KITTI tree.

    Raises:
        FileNotFoundError: if `training/image_2` or `training/label_2` is missing.
    """
    for folder in (IMAGE_FOLDER, LABEL_FOLDER):
        if not (root / folder).is_dir():
            raise FileNotFoundError(
                f"no folder {root / folder}. Mend: lay the data out as datasets/README.md shows, "
                "or point DETECTRON2_DATASETS to the folder that holds it."
            )
    images, labels, strangers = {}, {}, []
    for path in sorted((root / IMAGE_FOLDER).iterdir()):
        is_image = path.suffix.lower() in IMAGE_SUFFIXES and path.stem not in images
        if is_image and path.is_file():
            images[path.stem] = path
        else:
            strangers.append(path)
    for path in sorted((root / LABEL_FOLDER).iterdir()):
        if path.suffix == ".txt" and path.is_file():
            labels[path.stem] = path
        else:
            strangers.append(path)
    return TreeListing(images, labels, tuple(strangers))


@functools.lru_cache(maxsize=8)
def read_tree(root: Path) -> tuple[KittiFrame, ...]:
    """Read all frames of a KITTI tree; cached for the life of the process.

    Images are not decoded: `datasets/prepare_kitti.py` does that.

    Raises:
        FileNotFoundError: if the folders or all images are missing.
        ValueError: if files lack their partner, labels are malformed, an image has no readable
            header or a box lies outside its image: each with its path.
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
    """One message for each image without a label file and each label file without an image."""
    problems = [
        f"{path}: no label file {name}.txt in {LABEL_FOLDER}. "
        "Mend: add it (empty if the image shows no object) or remove the image."
        for name, path in listing.images.items()
        if name not in listing.labels
    ]
    problems += [
        f"{path}: no image {name}.png or .jpg in {IMAGE_FOLDER}. Mend: add it or remove the label."
        for name, path in listing.labels.items()
        if name not in listing.images
    ]
    return problems


def read_frame(
    name: str, index: int, image_path: Path, label_path: Path
) -> tuple[KittiFrame | None, list[str]]:
    """Read one frame.

    Returns:
        The frame (None if the image has no readable header) and all problems met.
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
                f"of {width} x {height}. Mend: labels are in pixels of this very image."
            )
    return KittiFrame(name, index, image_path, width, height, tuple(objects)), problems
