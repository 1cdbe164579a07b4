"""The one check of a config's datasets before the first step, whichever way they came."""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from omegaconf import DictConfig, OmegaConf

from projects.clockdistill.data.annotation_rules import shared_images
from projects.clockdistill.data.dataset_check import DatasetReport, check_dataset
from projects.clockdistill.data.findings import some
from projects.clockdistill.data.passed_checks import file_fingerprint, recall, remember
from projects.clockdistill.data.registered import (
    check_registered_file,
    loader_refusals,
    registered_file,
)
from projects.clockdistill.data.unlabelled import checked_unlabelled_dicts
from projects.clockdistill.engine.config_file import (
    ConfigError,
    dicts_in,
    named_arguments,
    nearest,
)
from projects.clockdistill.engine.data_config import (
    dataset_names,
    evaluator_calls,
    unlabelled_names,
)

logger = logging.getLogger(__name__)

_SHOWN = 10  # errors of one message
_TITLES = {"train": "training", "test": "validation"}
Result = TypeVar("Result")


@dataclass(frozen=True)
class DataReport:
    """What the check found.

    Attributes:
        parts: "train" and "test", or "test" alone -> what was found.
        warnings: about training and validation data together.
    """

    parts: dict[str, DatasetReport]
    warnings: list[str]

    @property
    def errors(self) -> list[str]:
        """What ends the run, each with the key of its dataset."""
        return [
            f"dataloader.{part}.dataset: {error}"
            for part, report in self.parts.items()
            for error in report.errors
        ]

    @property
    def all_warnings(self) -> list[str]:
        """The warnings of each dataset, with its key, and those about both."""
        of_parts = [
            f"dataloader.{part}.dataset: {warning}"
            for part, report in self.parts.items()
            for warning in report.warnings
        ]
        return of_parts + self.warnings

    def refuse_errors(self) -> None:
        """Ends the run if there are errors.

        Raises:
            ConfigError: with the keys and the fixes, the first ten if there are more.
        """
        if errors := self.errors:
            more = f"\nand {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
            raise ConfigError("\n".join(errors[:_SHOWN]) + more)

    def usable(self, part: str, dicts: list[dict]) -> list[dict]:
        """Returns the dicts of a part without those of images that are skipped."""
        files = {name for name, _ in self.parts[part].left_out}
        return [record for record in dicts if record["file_name"] not in files]

    def log(self) -> None:
        """Logs the tables and the warnings, on the main process."""
        if not comm.is_main_process():
            return
        for report in self.parts.values():
            logger.info("data:\n%s", report.table)
        for warning in self.all_warnings:
            logger.warning("%s", warning)


def check_data(cfg: DictConfig, *, eval_only: bool) -> DataReport:
    """Checks that every dataset of the config can be trained on and evaluated.

    The main process checks; the others wait for it.

    Args:
        cfg: the whole config.
        eval_only: check only the test data and, of a distillation model, the student.

    Raises:
        ConfigError: with the keys and the fixes, the first ten if there are more.
    """
    report = _on_main_process(lambda: inspect_data(cfg, eval_only=eval_only))
    report.refuse_errors()
    if not comm.is_main_process():
        for part in report.parts:  # which registers names and classes in this process, too
            if "json_file" in cfg.dataloader[part].dataset or not _classes_are_known(cfg, part):
                load_dicts(cfg, part)
    return report


def inspect_data(
    cfg: DictConfig,
    *,
    eval_only: bool,
    decode: bool = False,
    dicts: Mapping[str, list[dict]] | None = None,
) -> DataReport:
    """Returns what `check_data` refuses or logs; arguments as there.

    Args:
        cfg: the whole config.
        eval_only: look only at the test data.
        decode: decode every image.
        dicts: of each part, as `load_dicts` returns them; None loads them.

    Raises:
        ConfigError: if a dataset does not exist, cannot be loaded or has other classes.
    """
    parts = ["test"] if eval_only else ["train", "test"]
    dicts = dicts or {part: load_dicts(cfg, part) for part in parts}
    _check_classes(cfg, parts, eval_only=eval_only)
    reports = {}
    for part in parts:
        names = dataset_names(cfg, part)
        skip = bool(OmegaConf.select(cfg, f"dataloader.{part}.mapper.skip_bad_images"))
        reports[part] = check_dataset(
            dicts[part],
            MetadataCatalog.get(names[0]),
            f"{_TITLES[part]}: {', '.join(names)}",
            queries=query_count(cfg) if part == "train" else None,
            # one that fails later has no substitute, unlike a training image
            decode=decode or (skip and part == "test"),
            skip_bad_images=skip,
        )
    warnings = []
    is_sound = not any(report.errors for report in reports.values())
    shared = [] if eval_only or not is_sound else shared_images(dicts["train"], dicts["test"])
    if shared:
        warnings.append(
            f"{len(shared)} of the {len(dicts['test'])} validation images are training images, "
            f"too: {some(shared)}. Fix: keep them apart; otherwise AP says nothing about other "
            "images"
        )
    if not eval_only and is_sound and (names := unlabelled_names(cfg.dataloader)):
        warnings += _unlabelled_warnings(names, dicts["test"])
    return DataReport(reports, warnings)


def _unlabelled_warnings(names: list[str], test: list[dict]) -> list[str]:
    """Checks the images without labels; returns what the user should look at."""
    key = "dataloader.unlabelled.names"
    try:
        dicts = checked_unlabelled_dicts(names)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{key}: {error}") from error
    except Exception as error:  # whatever a reader makes of data that it does not expect
        raise ConfigError(f"{key}: cannot be loaded: {type(error).__name__}: {error}") from error
    if shared := shared_images(dicts, test):
        return [
            f"{key}: {len(shared)} of the {len(test)} validation images are "
            f"among the images without labels: {some(shared)}. Fix: leave them out, unless the "
            "detector is to be used on just these images"
        ]
    return []


def without_bad_images(cfg: DictConfig, report: DataReport) -> DictConfig:
    """Returns a config whose loaders and evaluators leave out the images that the check skipped."""
    if not any(part.left_out for part in report.parts.values()):
        return cfg
    cfg = cfg.copy()
    for part, found in report.parts.items():
        node = cfg.dataloader[part]
        files = [name for name, _ in found.left_out]
        node.dataset = L(leave_out)(dataset=node.dataset, names=node.dataset.names, files=files)
    skipped = [id_ for _, id_ in report.parts["test"].left_out]
    for key, call in evaluator_calls(cfg.dataloader).items() if skipped else ():
        if "left_out" in named_arguments(call):
            call.left_out = skipped
        else:
            logger.warning("%s counts the objects of skipped images as not found", key)
    return cfg


def leave_out(dataset: list[dict], names: str | list[str], files: Collection[str]) -> list[dict]:
    """Returns the dicts of a dataset without those of some files.

    Args:
        dataset: detectron2's dataset dicts.
        names: of the dataset, for those who read the config.
        files: values of `file_name`.
    """
    files = set(files)
    return [record for record in dataset if record["file_name"] not in files]


def _on_main_process(function: Callable[[], Result]) -> Result:
    """Returns on every process what a function returns, or raises, on the main process."""
    result, error = None, None
    if comm.is_main_process():
        try:
            result = function()
        except Exception as caught:
            error = caught
    if comm.get_world_size() > 1:
        message = None if error is None else str(error)
        result, message = comm.all_gather((result, message))[0]
        if message is not None and error is None:
            raise ConfigError(message)
    if error is not None:
        raise error
    return result


def _check_classes(cfg: DictConfig, parts: list[str], *, eval_only: bool) -> None:
    """Checks that all datasets have the same classes, as many as the models."""
    classes = {}
    for part in parts:
        key = f"dataloader.{part}.dataset.names"
        for name in dataset_names(cfg, part):
            names = MetadataCatalog.get(name).get("thing_classes")
            if not names:
                raise ConfigError(
                    f"{key}={name} has no class names.\n"
                    f"Fix: set MetadataCatalog.get('{name}').thing_classes = [...]"
                )
            classes[f"{key}={name}"] = list(names)
    counts = _class_counts(cfg, eval_only=eval_only)
    for key, names in classes.items():
        first_key, first = next(iter(classes.items()))
        if names != first:
            raise ConfigError(
                f"{key} has the classes {names}, but {first_key} has {first}.\n"
                "Fix: name datasets of the same classes"
            )
        for model_key, count in counts.items():
            if count != len(names):
                other = "name another dataset"
                if model_key.startswith("model.teacher."):
                    other = "model.class_map to the teacher's class for each of the student's"
                raise ConfigError(
                    f"{model_key}={count}, but {key} has {len(names)} classes "
                    f"({', '.join(names)}).\nFix: set {model_key}={len(names)}, or {other}"
                )


def load_dicts(cfg: DictConfig, part: str) -> list[dict]:
    """Returns the dicts of a part's datasets, "train" or "test".

    Raises:
        ConfigError: if a dataset does not exist or cannot be loaded.
    """
    key = f"dataloader.{part}.dataset"
    names = dataset_names(cfg, part)
    node = OmegaConf.select(cfg, key)
    if "json_file" not in node:
        for name in names:
            _check_exists(name, f"{key}.names={name}")
        key += f".names={','.join(names)}"
    try:
        for name in names:
            _check_file(name)
        with loader_refusals(names):
            dicts = instantiate(node)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{key}: {error}") from error
    except Exception as error:  # whatever a reader makes of data that it does not expect
        raise ConfigError(f"{key}: cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(dicts, list):
        raise ConfigError(
            f"{key} gives a {type(dicts).__name__}, expected a list of detectron2's dataset "
            "dicts.\nFix: register a function that returns such a list"
        )
    return dicts


def _check_file(name: str) -> None:
    """Checks the file of a dataset that is registered as COCO, unless it has passed before."""
    path = registered_file(name)
    if path is None:
        return
    known_as = file_fingerprint(path)
    if recall(known_as, ["file"]) is None:
        check_registered_file(path)
        remember(known_as, ["file"], {})


def _check_exists(name: str, key: str) -> None:
    """Checks that a dataset is registered and that its files exist."""
    if name not in DatasetCatalog:
        raise ConfigError(
            f"{key} is not a registered dataset{nearest(name, DatasetCatalog.list())}\n"
            "Fix: for your own COCO-format data, give its JSON file and image folder as "
            "datasets/README.md shows"
        )
    metadata = MetadataCatalog.get(name)
    for field in ("json_file", "image_root"):
        path = metadata.get(field)
        if path and not Path(PathManager.get_local_path(path)).exists():
            raise ConfigError(
                f"{key}: {path} does not exist.\nFix: put the data there, or set "
                "DETECTRON2_DATASETS to the folder that holds it (datasets/README.md)"
            )


def _classes_are_known(cfg: DictConfig, part: str) -> bool:
    return all(MetadataCatalog.get(name).get("thing_classes") for name in dataset_names(cfg, part))


def _class_counts(cfg: DictConfig, *, eval_only: bool) -> dict[str, int]:
    """Returns every class count of the detectors by its key, except a backbone's own."""
    detectors = {"model": cfg.model}
    if "student" in cfg.model:
        detectors = {"model.student": cfg.model.student}
        if not eval_only and not cfg.model.get("class_map"):
            detectors["model.teacher"] = cfg.model.teacher
    return {
        f"{path}.num_classes": node.num_classes
        for key, detector in detectors.items()
        for path, node in dicts_in(detector, key)
        if "backbone" not in path.split(".") and node.get("num_classes") is not None
    }


def query_count(cfg: DictConfig) -> int | None:
    """Returns how many queries of the trained detector are matched with objects."""
    queries = cfg.model.get("student", cfg.model).get("num_queries")
    return queries if isinstance(queries, int) else None
