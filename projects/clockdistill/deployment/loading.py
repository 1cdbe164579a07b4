"""From a run folder, or a config and weights, to a detector and its spec."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import nn

from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.config_file import ConfigError, load_config
from projects.clockdistill.engine.weights import CheckpointError

logger = logging.getLogger(__name__)

_WEIGHTS = ("model_best.pth", "model_final.pth")  # of a run, in order of preference


def find_run(folder: str | Path, overrides: Sequence[str] = ()) -> tuple[DictConfig, Path]:
    """Returns the config and the weights of a folder that `tools/train_net.py` wrote.

    Args:
        folder: `train.output_dir` of the run.
        overrides: key=value of the config.

    Raises:
        ConfigError: if there is no such folder, it holds no config.yaml, or an override is wrong.
        CheckpointError: if it holds no weights.
    """
    folder = Path(folder).absolute()
    config = folder / "config.yaml"
    if not config.is_file():
        found = "holds no config.yaml" if folder.is_dir() else "is not a folder"
        raise ConfigError(f"{folder} {found}. Fix: name the train.output_dir of a run")
    for name in _WEIGHTS:
        if (folder / name).is_file():
            logger.info("weights: %s", folder / name)
            return load_config(str(config), overrides), folder / name
    raise CheckpointError(
        f"{folder} holds neither {' nor '.join(_WEIGHTS)}.\n"
        f"Fix: finish the run with --resume, or name weights to use with {config}"
    )


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
        ConfigError: if the config describes no detector, or another input than the weights'.
        CheckpointError: if the weights do not fit or are not finite.
    """
    cfg.train.device = device  # detrex's detectors are built for a device
    node = cfg.model.get("student", cfg.model)
    try:
        detector = instantiate(node).to(device).eval()
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error
    checkpointer = DetectorCheckpointer(detector, allow_pickle=cfg.train.allow_pickle)
    checkpointer.load_exact(str(weights), "weights")
    _require_finite(detector, weights)
    if checkpointer.loaded_spec is None:
        logger.warning(
            "%s does not say which classes and input sizes it was trained with: they are those of "
            "the config",
            weights,
        )
        return detector, ModelSpec.from_config(cfg)
    spec = ModelSpec.from_json(checkpointer.loaded_spec)
    for key in ("pixel_mean", "pixel_std"):
        if tuple(node[key]) != getattr(spec, key):
            raise ConfigError(
                f"the config has {key}={list(node[key])}, but {weights} was trained with "
                f"{list(getattr(spec, key))}.\nFix: use the config.yaml of the run"
            )
    return detector, spec


def _require_finite(detector: nn.Module, weights: str | Path) -> None:
    """Refuses weights of a run that diverged: with one NaN nothing is detected, without an error.

    Raises:
        CheckpointError: naming the weights.
    """
    broken = [key for key, value in detector.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"{weights}: {len(broken)} tensors hold NaN or infinite values, the first is "
            f"{broken[0]}.\nFix: use a checkpoint from before the run diverged"
        )


def choose_device(name: str | None) -> str:
    """Returns a device that torch has: by default an accelerator if there is one, or the CPU.

    Raises:
        ConfigError: if torch has no such device.
    """
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name is None:
        return "cpu" if found is None else found.type
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name}: {error}") from error
    if device.type != "cpu" and (found is None or device.type != found.type):
        raise ConfigError(f"device {name}: PyTorch finds no such device. Fix: use cpu")
    return name
