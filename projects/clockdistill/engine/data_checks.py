"""Checks that the datasets exist and that models and data agree on the classes."""

from pathlib import Path
from typing import Any

from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import DictConfig, OmegaConf

from projects.clockdistill.engine.config_file import ConfigError, nearest


def check_data(cfg: DictConfig, *, eval_only: bool) -> None:
    """Checks that every dataset of the config exists and has as many classes as the models.

    Args:
        cfg: the whole config.
        eval_only: check only the test data and, of a distillation model, the student.

    Raises:
        ConfigError: with the key and the fix.
    """
    parts = ["test"] if eval_only else ["train", "test"]
    classes = {}
    for part in parts:
        key = f"dataloader.{part}.dataset.names"
        _register(cfg, part)
        for name in dataset_names(cfg, part):
            classes[f"{key}={name}"] = _thing_classes(name, key)
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
                raise ConfigError(
                    f"{model_key}={count}, but {key} has {len(names)} classes "
                    f"({', '.join(names)}).\nFix: set {model_key}={len(names)}, or name another "
                    "dataset"
                )


def _register(cfg: DictConfig, part: str) -> None:
    """Builds a dataset that the config itself describes, which registers its name."""
    node = OmegaConf.select(cfg, f"dataloader.{part}.dataset")
    if not isinstance(node, DictConfig) or "json_file" not in node:
        return
    try:
        instantiate(node)
    except (OSError, ValueError) as error:
        raise ConfigError(f"dataloader.{part}.dataset: {error}") from error


def dataset_names(cfg: DictConfig, part: str) -> list[str]:
    """Returns `cfg.dataloader.<part>.dataset.names` as a list."""
    names = OmegaConf.select(cfg, f"dataloader.{part}.dataset.names")
    if names is None:
        raise ConfigError(
            f"the config has no dataloader.{part}.dataset.names. Fix: set it to a registered "
            "dataset, such as kitti_train"
        )
    return [names] if isinstance(names, str) else list(names)


def _thing_classes(name: str, key: str) -> list[str]:
    """Returns a dataset's class names after checking that its files exist."""
    if name not in DatasetCatalog:
        raise ConfigError(
            f"{key}={name} is not a registered dataset{nearest(name, DatasetCatalog.list())}\n"
            "Fix: for your own COCO-format data, give its JSON file and image folder as "
            "datasets/README.md shows"
        )
    metadata = MetadataCatalog.get(name)
    for field in ("json_file", "image_root"):
        path = metadata.get(field)
        if path and not Path(path).exists():
            raise ConfigError(
                f"{key}={name}: {path} does not exist.\nFix: put the data there, or set "
                "DETECTRON2_DATASETS to the folder that holds it (datasets/README.md)"
            )
    if not (metadata.get("json_file") and metadata.get("thing_classes")):
        try:
            DatasetCatalog.get(name)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{key}={name}: {error}") from error
    if not metadata.get("thing_classes"):
        raise ConfigError(
            f"{key}={name} has no class names.\n"
            f"Fix: set MetadataCatalog.get('{name}').thing_classes = [...]"
        )
    return list(metadata.thing_classes)


def _class_counts(cfg: DictConfig, *, eval_only: bool) -> dict[str, int]:
    """Returns every class count of the models by its config key."""
    if "student" not in cfg.model:
        return _counts_below(cfg.model, "model")
    counts = _counts_below(cfg.model.student, "model.student")
    if not eval_only and not cfg.model.get("class_map"):
        counts |= _counts_below(cfg.model.teacher, "model.teacher")
    return counts


def _counts_below(node: Any, path: str) -> dict[str, int]:
    """Returns every `num_classes` of a detector, except that of a backbone's own classifier."""
    found = {}
    if not isinstance(node, DictConfig):
        return found
    for key in node:
        if key == "num_classes" and node[key] is not None:
            found[f"{path}.{key}"] = node[key]
        elif key != "backbone" and OmegaConf.is_config(node._get_node(key)):
            found |= _counts_below(node[key], f"{path}.{key}")
    return found
