"""What the trainer sees: augmented images with their boxes, and statistics of the splits."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances
from omegaconf import DictConfig, OmegaConf

import projects.clockdistill.data  # noqa: F401  registers the datasets
from projects.clockdistill.data.annotations import collect_annotations
from projects.clockdistill.data.dataset_table import LARGE, SMALL
from projects.clockdistill.data.findings import Findings
from projects.clockdistill.data.statistics import SplitObjects, class_counts
from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.engine.checks import check_calls, check_values, require_lazy_calls
from projects.clockdistill.engine.config_file import ConfigError
from projects.clockdistill.engine.data_check import (
    inspect_data,
    load_dicts,
    query_count,
    without_bad_images,
)
from projects.clockdistill.engine.data_config import dataset_names, is_seeded
from projects.clockdistill.engine.train_loader import build_train_loader, seeded_batches
from projects.clockdistill.modeling.pseudo_targets import UNLABELLED
from projects.clockdistill.visualization.data_figure import Histogram, save_data_figure
from projects.clockdistill.visualization.detection_grid import (
    DrawnBox,
    Outcome,
    Picture,
    is_wide,
    save_picture_pages,
)

_SPLITS = {"train": "training", "test": "validation"}


@dataclass(frozen=True)
class TrainingData:
    """The datasets of a config, checked as training checks them.

    Attributes:
        cfg: the config, whose loaders leave out what the check skipped.
        dicts: "train" and "test" -> detectron2's dataset dicts.
        class_names: by class.
        queries: of the trained detector; None if the config does not say.
        warnings: of the check.
    """

    cfg: DictConfig
    dicts: dict[str, list[dict]]
    class_names: list[str]
    queries: int | None
    warnings: list[str]

    def splits(self) -> dict[str, SplitObjects]:
        """Returns the objects of both splits, before augmentation; no image is read."""
        found = {}
        for part, dicts in self.dicts.items():
            names = ", ".join(dataset_names(self.cfg, part))
            annotations = collect_annotations(dicts, len(self.class_names), Findings())
            found[f"{_SPLITS[part]}: {names}"] = SplitObjects.of(annotations)
        return found


def load_training_data(cfg: DictConfig) -> TrainingData:
    """Checks and loads the datasets of a config.

    Raises:
        ConfigError: with the key and the fix, if training would refuse the datasets.
    """
    for key in ("dataloader", "model", "train"):
        if not isinstance(cfg.get(key), DictConfig):
            raise ConfigError(
                f"the config has no {key}, which tells what the trainer sees.\n"
                "Fix: name a config of tools/train_net.py"
            )
    keys = [f"dataloader.{part}" for part in _SPLITS]
    require_lazy_calls({key: OmegaConf.select(cfg, key) for key in keys})
    check_values(cfg.dataloader, "dataloader")
    check_calls(cfg.dataloader, "dataloader")
    dicts = {part: load_dicts(cfg, part) for part in _SPLITS}
    report = inspect_data(cfg, eval_only=False, dicts=dicts)
    report.refuse_errors()
    return TrainingData(
        without_bad_images(cfg, report),
        {part: report.usable(part, dicts[part]) for part in _SPLITS},
        list(MetadataCatalog.get(dataset_names(cfg, "train")[0]).thing_classes),
        query_count(cfg),
        report.all_warnings,
    )


def training_pictures(data: TrainingData, count: int) -> list[Picture]:
    """Returns the images of the run's first steps as the training loader yields them.

    Crowd boxes, which the mapper leaves out, go through the same transforms and are drawn as
    ignored.

    Args:
        data: of the run.
        count: number of images; fewer if the training data has fewer.
    """
    count = min(count, len(data.dicts["train"]))
    return [_picture(mapped, ignored) for mapped, ignored in itertools.islice(_images(data), count)]


def _images(data: TrainingData) -> Iterator[tuple[dict, Instances | None]]:
    """Yields mapped training images, each with its crowd boxes if they are known."""
    dataloader, seed = data.cfg.dataloader, data.cfg.train.seed
    if not is_seeded(dataloader.train):
        for image in itertools.chain.from_iterable(build_train_loader(dataloader, seed, 0)):
            yield image, None
        return
    seed = seed if seed >= 0 else torch.seed() % 2**31
    # the same draws on dicts in which the crowds are the objects
    dicts = [_crowds(record) for record in data.dicts["train"]]
    loaded = (seeded_batches(dataloader, one, seed) for one in (data.dicts["train"], dicts))
    for image, crowds in zip(*loaded, strict=True):
        yield image, crowds.get("instances")


def _crowds(record: dict) -> dict:
    """Returns a dataset dict whose objects are the crowds of another."""
    crowds = [item for item in record.get("annotations", ()) if item.get("iscrowd")]
    return {**record, "annotations": [{**item, "iscrowd": 0} for item in crowds]}


def _picture(mapped: dict, ignored: Instances | None) -> Picture:
    pixels = mapped["image"].permute(1, 2, 0).numpy()
    # detectron2's own mapper gives an image without labels none
    boxes = _boxes(mapped["instances"]) if "instances" in mapped else []
    height, width = pixels.shape[:2]
    return Picture(
        pixels,
        (_boxes(ignored, Outcome.IGNORED) if ignored is not None else []) + boxes,
        f"{Path(mapped['file_name']).name}   {width} x {height}   {len(boxes)} objects",
        "without labels" if mapped.get(UNLABELLED) else "" if boxes else "no objects",
    )


def _boxes(instances: Instances, outcome: Outcome | None = None) -> list[DrawnBox]:
    corners, labels = instances.gt_boxes.tensor.tolist(), instances.gt_classes.tolist()
    return [
        DrawnBox(tuple(box), label, outcome=outcome)
        for box, label in zip(corners, labels, strict=True)
    ]


def save_training_pictures(path: Path, pictures: list[Picture], data: TrainingData) -> list[Path]:
    """Draws training images with their boxes; returns the files, of which `path` is the first."""
    columns = min(2 if is_wide(pictures) else 4, len(pictures))
    has_crowds = any(box.outcome for picture in pictures for box in picture.boxes)
    return save_picture_pages(
        path,
        [pictures[start : start + columns] for start in range(0, len(pictures), columns)],
        data.class_names,
        legend=[Outcome.IGNORED] if has_crowds else [],
    )


def save_statistics(path: Path, splits: Mapping[str, SplitObjects], data: TrainingData) -> None:
    """Draws the statistics of both splits in one figure."""
    sides = {name: np.sqrt(split.areas) for name, split in splits.items()}
    limits = {f"{area**0.5:.0f}": area**0.5 for area in (SMALL, LARGE)}
    objects = "objects" + (f" (the detector has {data.queries} queries)" if data.queries else "")
    per_image = {name: split.per_image for name, split in splits.items()}
    shapes = {name: split.widths_and_heights for name, split in splits.items()}
    ratios = {name: sides[:, 0] / sides[:, 1] for name, sides in shapes.items()}
    histograms = [Histogram("Size in the file", "sqrt(area), pixels", sides, lines=limits)]
    if (scales := _input_scales(splits, data.cfg)) is not None:
        scaled = {name: sides[name] * scales[name][split.images] for name, split in splits.items()}
        is_resized = any((factors != 1).any() for factors in scales.values())
        how = "resized as for the evaluation" if is_resized else "not resized"
        title = f"Size at the input ({how})"
        histograms.append(Histogram(title, "sqrt(area), pixels", scaled, lines=limits))
    histograms.append(Histogram("Objects per image", objects, per_image, is_count=True))
    histograms.append(Histogram("Aspect ratio", "width / height", ratios, lines={"square": 1.0}))
    save_data_figure(
        path,
        data.class_names,
        class_counts(splits, len(data.class_names)),
        histograms,
        {name: split.centers for name, split in splits.items()},
    )


def _input_scales(
    splits: Mapping[str, SplitObjects], cfg: DictConfig
) -> dict[str, np.ndarray] | None:
    """Returns per split and image the factor of the evaluation's resizing, (M,).

    None if the test mapper does more than resize.
    """
    try:
        spec = ModelSpec.from_config(cfg)
    except ConfigError:
        return None
    scales = {}
    for name, split in splits.items():
        sizes, which = np.unique(split.sizes.astype(int), axis=0, return_inverse=True)
        factors = [
            np.sqrt(np.prod(spec.input_size(height, width)) / (width * height))
            for width, height in sizes.tolist()
        ]
        scales[name] = np.array(factors)[which.ravel()]
    return scales
