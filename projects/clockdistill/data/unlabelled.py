"""Images without labels, for distillation: registered datasets and folders of images."""

import os
from collections.abc import Sequence
from pathlib import Path

from detectron2.data import DatasetCatalog

from projects.clockdistill.data.findings import some
from projects.clockdistill.data.image_header import ImageError, read_image_size
from projects.clockdistill.data.image_pixels import check_image
from projects.clockdistill.data.kitti_tree import IMAGE_SUFFIXES
from projects.clockdistill.data.parallel import map_chunks
from projects.clockdistill.errors import UserError
from projects.clockdistill.modeling.pseudo_targets import UNLABELLED


def unlabelled_dicts(names: Sequence[str]) -> list[dict]:
    """Returns images as detectron2's dataset dicts, without annotations and marked as unlabelled.

    Args:
        names: registered datasets, whose annotations are left out, and folders, whose PNG and JPEG
            files are found at any depth, hidden ones left out (KITTI's testing/image_2, for
            example).

    Raises:
        UserError: if a name is neither, or has no images, or if images of a folder cannot be read.
    """
    found = []
    for name in names:
        if name in DatasetCatalog:
            records = DatasetCatalog.get(name)
            if not records:
                raise UserError(f"{name} has no images. Fix: name another dataset")
            found += [_without_labels(record) for record in records]
        elif Path(name).expanduser().is_dir():
            found += _folder(Path(name).expanduser().absolute())
        else:
            raise UserError(
                f"{name} is neither a registered dataset nor a folder.\n"
                "Fix: name one, for example datasets/kitti/testing/image_2"
            )
    return found


def checked_unlabelled_dicts(names: Sequence[str]) -> list[dict]:
    """Returns `unlabelled_dicts(names)` after a look at the header and end of every image file.

    Raises:
        UserError: also if images cannot be used; it names the first ones.
    """
    dicts = unlabelled_dicts(names)
    bad = [why for part in map_chunks(_bad_images, dicts, "unlabelled images") for why in part]
    if bad:
        raise UserError(f"{len(bad)} images cannot be used:\n{some(bad)}")
    return dicts


def _bad_images(records: Sequence[dict]) -> list[str]:
    found = []
    for record in records:
        if "://" in record["file_name"]:
            continue  # not a local file
        size = record.get("width"), record.get("height")
        try:
            check_image(record["file_name"], size if None not in size else None)
        except ImageError as error:
            found.append(str(error))
    return found


def _without_labels(record: dict) -> dict:
    kept = ("file_name", "image_id", "height", "width")
    return {**{key: record[key] for key in kept if key in record}, UNLABELLED: True}


def _folder(folder: Path) -> list[dict]:
    files = sorted(
        Path(path, name)
        for path, _, names in os.walk(folder, followlinks=True)
        for name in names
        if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
    )
    if not files:
        raise UserError(
            f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}).\nFix: name a folder of images"
        )
    sizes = [size for part in map_chunks(_sizes, files, "image sizes") for size in part]
    bad = [size for size in sizes if isinstance(size, str)]
    if bad:
        raise UserError(
            f"{len(bad)} of {len(files)} images of {folder} cannot be read:\n{some(bad)}"
        )
    return [
        {
            "file_name": str(file),
            "image_id": str(file),
            "height": height,
            "width": width,
            UNLABELLED: True,
        }
        for file, (width, height) in zip(files, sizes, strict=True)
    ]


def _sizes(files: Sequence[Path]) -> list[tuple[int, int] | str]:
    """Returns (width, height) of each file, or why it cannot be read."""
    sizes: list[tuple[int, int] | str] = []
    for file in files:
        try:
            sizes.append(read_image_size(file))
        except ImageError as error:
            sizes.append(str(error))
    return sizes
