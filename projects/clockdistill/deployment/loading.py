"""From a run folder, or a config and weights, to a detector and its spec."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.checks import build, check_calls, check_device, check_values
from projects.clockdistill.engine.config_file import ConfigError, load_config
from projects.clockdistill.engine.conventions import class_difference
from projects.clockdistill.engine.weights import CheckpointError, local_path

logger = logging.getLogger(__name__)

_WEIGHTS = ("model_best.pth", "model_final.pth")  # of a run, in order of preference


def run_config(folder: str | Path, overrides: Sequence[str] = ()) -> DictConfig:
    """Returns the config of a folder that `tools/train_net.py` wrote.

    Args:
        folder: `train.output_dir` of the run.
        overrides: key=value of the config.

    Raises:
        ConfigError: if there is no such folder, it holds no config.yaml, or an override is wrong.
    """
    folder = Path(folder).absolute()
    config = folder / "config.yaml"
    if not config.is_file():
        found = "holds no config.yaml" if folder.is_dir() else "is not a folder"
        raise ConfigError(f"{folder} {found}. Fix: name the train.output_dir of a run")
    return load_config(str(config), overrides)


def find_run(folder: str | Path, overrides: Sequence[str] = ()) -> tuple[DictConfig, Path]:
    """Returns the config and the weights of a folder that `tools/train_net.py` wrote.

    Arguments and errors are those of `run_config`.

    Raises:
        CheckpointError: if it holds no weights.
    """
    cfg = run_config(folder, overrides)
    folder = Path(folder).absolute()
    weights = run_weights(folder)
    if weights is None:
        raise CheckpointError(
            f"{folder} holds neither {' nor '.join(_WEIGHTS)}.\nFix: finish the run with --resume, "
            f"or name weights to use with {folder / 'config.yaml'}"
        )
    logger.info("weights: %s", weights)
    return cfg, weights


def run_weights(folder: Path) -> Path | None:
    """Returns the file of a run's weights, the best if it has them; None if it has none."""
    return next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)


def load_detector(cfg: DictConfig, weights: str | Path, device: str) -> tuple[nn.Module, ModelSpec]:
    """Builds the detector of a config, of a distillation config the student, with these weights.

    Args:
        cfg: the whole config; its `train.device` is changed.
        weights: path or address; they must fit completely. A file without a spec takes it from
            the config.
        device: where the detector goes.

    Returns:
        The detector in eval mode, and its spec.

    Raises:
        ConfigError: if the config describes no detector.
        CheckpointError: if the weights do not fit, or were trained with another input.
    """
    for part in ("model", "train"):
        if not isinstance(cfg.get(part), DictConfig):
            raise ConfigError(f"the config has no {part}. Fix: name the config of a detector")
    cfg.train.device = device  # detrex's detectors are built for a device
    key = "model.student" if "student" in cfg.model else "model"
    node = OmegaConf.select(cfg, key)
    check_calls(node, key)
    check_values(node, key)
    detector = build(node, key).to(device).eval()
    checkpointer = DetectorCheckpointer(detector)
    checkpointer.load_exact(str(weights), "weights")
    if checkpointer.loaded_spec is None:
        logger.warning(
            "%s does not say which classes and input sizes it was trained with: they are those of "
            "the config",
            weights,
        )
        spec = ModelSpec.from_config(cfg)
        other_classes = class_difference(checkpointer.loaded_classes, spec.class_names)
        if other_classes is not None:
            raise CheckpointError(
                f"weights={weights}: {other_classes}.\nFix: use a config of the file's classes"
            )
        return detector, spec
    return detector, ModelSpec.from_json(checkpointer.loaded_spec)


def load_teacher_detector(cfg: DictConfig, device: str) -> tuple[nn.Module, ModelSpec] | None:
    """Builds the teacher of a distillation config, with the weights that the config names.

    Args:
        cfg: the whole config; not changed.
        device: where the detector goes.

    Returns:
        None for the config of a plain detector, and, with a warning, if there is no such file.

    Raises:
        CheckpointError: if the weights do not fit.
    """
    checkpoint = OmegaConf.select(cfg, "model.teacher_checkpoint")
    if "teacher" not in cfg.model or not checkpoint:
        return None
    try:
        path = local_path(checkpoint, "model.teacher_checkpoint")
    except CheckpointError as error:
        logger.warning("the teacher is left out: %s", error)
        return None
    plain = cfg.copy()
    OmegaConf.resolve(plain.model)  # the teacher's values may refer to the student's
    plain.model = plain.model.teacher
    return load_detector(plain, path, device)


def choose_device(name: str | None) -> str:
    """Returns a device that torch has: by default an accelerator if there is one, or the CPU.

    Raises:
        ConfigError: if torch has no such device.
    """
    if name is not None:
        return check_device(name, "device")
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if found is None else found.type
