"""KITTI in detectron2's catalogs: splits and classes -> dataset dicts."""

import functools
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from projects.clockdistill.data.annotations import DROPPED, UNCLIPPED
from projects.clockdistill.data.kitti_presets import PRESETS, KittiPreset
from projects.clockdistill.data.kitti_tree import KittiFrame, read_tree
from projects.clockdistill.data.split import split_by_files, split_by_seed
from projects.clockdistill.errors import UserError

SPLIT_FOLDER_VARIABLE = "CLOCKDISTILL_KITTI_SPLIT"


def datasets_root() -> Path:
    """Returns the folder of all datasets: `$DETECTRON2_DATASETS`, by default `datasets`.

    The variable is read at each call, so it may be set after this module is imported.
    """
    return Path(os.environ.get("DETECTRON2_DATASETS") or "datasets").expanduser()


def register_kitti(
    name: str,
    preset: str | KittiPreset = "kitti7",
    root: Path | Callable[[], Path] | None = None,
    split_files: dict[str, Path] | None = None,
) -> None:
    """Registers `<name>_train` and `<name>_val`. No file is read before they are loaded.

    Args:
        name: prefix of both datasets.
        preset: key of `PRESETS`, or a preset of your own.
        root: folder that contains `training/`, or a function that returns it when the data is
            loaded. By default `$DETECTRON2_DATASETS/kitti`.
        split_files: {"train": path, "val": path}, files with one frame name per line. By
            default the seeded 8:2 split; for the tree at the default root, `train.txt` and
            `val.txt` in the folder that `$CLOCKDISTILL_KITTI_SPLIT` names, if it is set.

    Raises:
        UserError: if the preset is unknown or `split_files` lacks a split.
    """
    if split_files is not None and set(split_files) != {"train", "val"}:
        raise UserError(
            f"split_files has {sorted(split_files)}. Fix: give a file for 'train' and for 'val'."
        )
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise UserError(f"unknown KITTI preset {preset!r}. Fix: use {', '.join(PRESETS)}.")
        preset = PRESETS[preset]
    for split in ("train", "val"):
        DatasetCatalog.register(
            f"{name}_{split}",
            functools.partial(load_kitti, preset, split, root, split_files),
        )
        MetadataCatalog.get(f"{name}_{split}").set(
            thing_classes=list(preset.classes),
            thing_dataset_id_to_contiguous_id={i: i for i in range(len(preset.classes))},
            evaluator_type="coco",
            kitti_preset=preset,
            # the dicts keep neither truncation and occlusion nor what is no class
            kitti_frames=functools.partial(load_frames, split, root, split_files),
        )


def register_part(name: str, whole: str, frames: slice) -> None:
    """Registers some frames of a dataset that `register_kitti` registered, by their place in it.

    Args:
        name: of the part.
        whole: name of the dataset.
        frames: which of its frames.
    """
    DatasetCatalog.register(name, lambda: DatasetCatalog.get(whole)[frames])
    metadata = MetadataCatalog.get(whole)
    MetadataCatalog.get(name).set(
        thing_classes=metadata.thing_classes,
        thing_dataset_id_to_contiguous_id=metadata.thing_dataset_id_to_contiguous_id,
        evaluator_type=metadata.evaluator_type,
        kitti_preset=metadata.kitti_preset,
        kitti_frames=lambda: metadata.kitti_frames()[frames],
    )


def load_kitti(
    preset: KittiPreset,
    split: str,
    root: Path | Callable[[], Path] | None = None,
    split_files: dict[str, Path] | None = None,
) -> list[dict]:
    """Returns one split as detectron2's dataset dicts; arguments as for `register_kitti`.

    Raises:
        FileNotFoundError, UserError: as `load_frames` raises them.
    """
    return [frame_to_dict(frame, preset) for frame in load_frames(split, root, split_files)]


def load_frames(
    split: str,
    root: Path | Callable[[], Path] | None = None,
    split_files: dict[str, Path] | None = None,
) -> list[KittiFrame]:
    """Returns the frames of one split; arguments as for `register_kitti`.

    Raises:
        FileNotFoundError, UserError: as `read_tree` and `split_by_files` raise them.
    """
    if root is None:
        root = datasets_root() / "kitti"
        split_files = split_files or split_files_of_environment()
    elif callable(root):
        root = root()
    frames = {frame.name: frame for frame in read_tree(Path(root).absolute())}
    if split_files:
        names = split_by_files(list(frames), split_files["train"], split_files["val"])[split]
    else:
        names = split_by_seed(list(frames))[split]
    if not names:
        raise UserError(
            f"the KITTI tree {root} has {len(frames)} frame(s), which leaves none for {split!r}. "
            "Fix: add frames; a split of training and validation data needs two."
        )
    return [frames[name] for name in names]


def frame_to_dict(frame: KittiFrame, preset: KittiPreset) -> dict:
    """Returns a frame as detectron2's dataset dict, boxes clipped to the image.

    `data/annotations.py` names the keys that tell of clipped boxes and of objects that are
    background.
    """
    background = Counter(
        f"objects of type {item.type}, which is no class"
        for item in frame.objects
        if item.type not in preset.class_of and item.type not in preset.ignored_for
    )
    return {
        "file_name": str(frame.image_path),
        "image_id": frame.index,
        "height": frame.height,
        "width": frame.width,
        "annotations": _annotations(frame, preset),
        **({DROPPED: dict(background)} if background else {}),
    }


def _annotations(frame: KittiFrame, preset: KittiPreset) -> list[dict]:
    annotations = []
    for item in frame.objects:
        left, top, right, bottom = item.box_xyxy
        bbox = [max(left, 0.0), max(top, 0.0), min(right, frame.width), min(bottom, frame.height)]
        targets = [(preset.class_of[item.type], 0)] if item.type in preset.class_of else []
        targets += [(name, 1) for name in preset.ignored_for.get(item.type, ())]
        annotations += [
            {
                "bbox": list(bbox),
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": preset.classes.index(class_name),
                "iscrowd": iscrowd,
                **({UNCLIPPED: list(item.box_xyxy)} if bbox != list(item.box_xyxy) else {}),
            }
            for class_name, iscrowd in targets
        ]
    return annotations


def split_files_of_environment() -> dict[str, Path] | None:
    """Returns the two split files that `$CLOCKDISTILL_KITTI_SPLIT` names; None if it is unset."""
    folder = os.environ.get(SPLIT_FOLDER_VARIABLE)
    if not folder:
        return None
    return {split: Path(folder).expanduser() / f"{split}.txt" for split in ("train", "val")}
