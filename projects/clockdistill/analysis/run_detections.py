"""Test data of a run, and what the detectors of runs find in it."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances
from omegaconf import DictConfig
from tqdm import tqdm

import projects.clockdistill.data  # noqa: F401  registers the datasets
from projects.clockdistill.data.annotations import is_id
from projects.clockdistill.deployment.loading import find_run, load_detector, run_config
from projects.clockdistill.engine.checks import build
from projects.clockdistill.engine.config_file import ConfigError
from projects.clockdistill.engine.conventions import class_difference, teacher_classes
from projects.clockdistill.engine.data_check import check_data, without_bad_images
from projects.clockdistill.engine.data_config import dataset_names
from projects.clockdistill.engine.teacher import load_teacher
from projects.clockdistill.errors import UserError
from projects.clockdistill.evaluation.coco import (
    load_categories,
    load_ground_truth,
    to_coco_detections,
)
from projects.clockdistill.report.run import DETECTIONS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationData:
    """The test images of a config, and their objects.

    Attributes:
        cfg: the config.
        records: image id -> detectron2's dataset dict.
        ground_truth: COCO JSON content of these images.
        class_names: by class.
        category_ids: class -> id in the ground truth.
    """

    cfg: DictConfig
    records: dict[Any, dict]
    ground_truth: dict[str, Any]
    class_names: list[str]
    category_ids: dict[int, Any]

    @classmethod
    def of(cls, cfg: DictConfig) -> "EvaluationData":
        """Checks and loads the test data of a config.

        Raises:
            ConfigError: if there is none, several datasets, or one that cannot be evaluated.
        """
        for key in ("dataloader", "model", "train"):
            if not isinstance(cfg.get(key), DictConfig):
                raise ConfigError(f"the config has no {key}. Fix: name the folder of a run")
        names = dataset_names(cfg, "test")
        if len(names) > 1:
            raise ConfigError(
                f"dataloader.test.dataset.names={names}: detections are compared on one dataset.\n"
                f"Fix: add dataloader.test.dataset.names={names[0]}"
            )
        checked = without_bad_images(cfg, check_data(cfg, eval_only=True))
        dicts = instantiate(checked.dataloader.test.dataset)
        records = {record["image_id"]: record for record in dicts}
        truth = load_ground_truth(names[0])
        images = [image for image in truth["images"] if image["id"] in records]
        class_names = list(MetadataCatalog.get(names[0]).thing_classes)
        categories = load_categories(names[0])
        return cls(cfg, records, {**truth, "images": images}, class_names, categories)


def run_detections(
    run: str | Path, data: EvaluationData, image_ids: Sequence[Any], device: str
) -> list[dict[str, Any]]:
    """Returns the detections of a run on test images.

    Args:
        run: its folder; the detections of its last evaluation are used if it had the same data.
        data: the test data.
        image_ids: of the images on which the detector runs otherwise.
        device: of the detector.

    Raises:
        ConfigError, CheckpointError: if the run cannot be read, or has other classes.
    """
    theirs, ours = (cfg.dataloader.test.dataset for cfg in (run_config(run), data.cfg))
    is_same = all(theirs.get(key) == ours.get(key) for key in ("names", "json_file"))
    found = _evaluated(run, data) if is_same else None
    return _detected(run, data, image_ids, device) if found is None else found


def teacher_detections(
    data: EvaluationData, image_ids: Sequence[Any], device: str
) -> list[dict[str, Any]]:
    """Returns the detections of a distillation config's teacher on some of the test images.

    Raises:
        CheckpointError: if its weights are missing or do not fit.
    """
    cfg = data.cfg
    cfg.train.device = device
    model = build(cfg.model, "model").to(device).eval()
    load_teacher(model.teacher, model.teacher_checkpoint, teacher_classes(cfg))
    return _detect(model.teacher_detections, cfg, data, image_ids, "teacher")


def _evaluated(run: str | Path, data: EvaluationData) -> list[dict[str, Any]] | None:
    """Returns what the last evaluation of a run found; None if there is no file of it."""
    path = Path(run) / DETECTIONS
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
        ids = {entry["image_id"] for entry in found}
        is_valid = all(map(is_id, ids)) and all(
            {"category_id", "bbox", "score"} <= entry.keys() for entry in found
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        is_valid = False
    if not is_valid:
        raise UserError(f"{path} holds no COCO results. Fix: remove it, or evaluate the run again")
    if strange := ids - data.records.keys():
        raise UserError(
            f"{path} has detections in images that are not in the test data, such as "
            f"{next(iter(strange))}.\nFix: remove the file, or evaluate the run again"
        )
    logger.info("detections: %s", path)
    return found


def _detected(
    run: str | Path, data: EvaluationData, image_ids: Sequence[Any], device: str
) -> list[dict[str, Any]]:
    """Returns what the detector of a run finds."""
    cfg, weights = find_run(run)
    detector, spec = load_detector(cfg, weights, device)
    if (difference := class_difference(spec.class_names, data.class_names)) is not None:
        raise ConfigError(f"{run}: {difference}.\nFix: name a run of the same classes")

    def detect(batch: list[dict]) -> list[Instances]:
        return [output["instances"] for output in detector(batch)]

    return _detect(detect, cfg, data, image_ids, Path(run).name)


@torch.no_grad()
def _detect(
    detect: Callable[[list[dict]], list[Instances]],
    cfg: DictConfig,
    data: EvaluationData,
    image_ids: Sequence[Any],
    title: str,
) -> list[dict[str, Any]]:
    """Runs a detector on test images, one after the other, as the evaluation of its config does."""
    mapper = build(cfg.dataloader.test.mapper, "dataloader.test.mapper")
    found = []
    for image_id in tqdm(image_ids, title, unit="image", disable=None):
        instances = detect([mapper(data.records[image_id])])[0]
        found += to_coco_detections(instances, image_id, data.category_ids)
    return found
