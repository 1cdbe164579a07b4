"""Checks that refuse a config before any work is done."""

import os
from collections.abc import Iterable

import torch
from detectron2.config import LazyConfig
from omegaconf import DictConfig, OmegaConf

from projects.clockdistill.engine.config_file import (
    CONFIGS,
    ConfigError,
    accepted_arguments,
    dicts_in,
    nearest,
)
from projects.clockdistill.modeling.detectors.layers.deformable_sampling import VARIABLE, backend

_COMMON = CONFIGS / "common"
_TOP_LEVEL = ("model", "dataloader", "optimizer", "lr_multiplier", "train")


def check_config(cfg: DictConfig) -> None:
    """Checks the keys, the arguments of every lazy call and the device.

    Raises:
        ConfigError: with the key and the fix.
    """
    for key in _TOP_LEVEL:
        if key not in cfg:
            raise ConfigError(
                f"the config has no {key}; it needs {', '.join(_TOP_LEVEL)}.\n"
                f"Fix: import what is missing from {_COMMON}"
            )
    _check_train_keys(cfg.train, LazyConfig.load(str(_COMMON / "train.py")).train, "train")
    _check_calls(cfg)
    _check_device(cfg.train)
    _check_sampling(cfg.train.device)


def _check_sampling(device: str) -> None:
    """Checks that a backend which the environment forces can be used on the device."""
    if os.environ.get(VARIABLE):
        try:
            backend(torch.device(device).type)
        except RuntimeError as error:
            raise ConfigError(str(error)) from error


def check_batch_size(cfg: DictConfig, processes: int) -> None:
    """Checks that the training batch splits into equal parts for all processes and their chunks.

    Raises:
        ConfigError: with the key and the fix.
    """
    steps = cfg.train.accumulate_steps
    if not isinstance(steps, int) or steps < 1:
        raise ConfigError(
            f"train.accumulate_steps={steps} must be a whole number of at least 1.\n"
            "Fix: 1 does not split the batch"
        )
    images = cfg.dataloader.train.get("total_batch_size")
    if images is not None and images % (processes * steps):
        raise ConfigError(
            f"dataloader.train.total_batch_size={images} cannot be split into equal parts for "
            f"{processes} process(es) with train.accumulate_steps={steps} each.\n"
            f"Fix: use a multiple of {processes * steps}"
        )


def _check_train_keys(node: DictConfig, schema: DictConfig, path: str) -> None:
    """Checks that a node has exactly the keys of `schema`, which gives each its default."""
    for key in node:
        if key not in schema:
            raise _unknown_key(path, key, schema, path)
    for key, below in schema.items():
        if key not in node:
            raise ConfigError(
                f"the config has no {path}.{key}. Fix: import train from configs/common/train.py "
                "and change what differs"
            )
        if isinstance(below, DictConfig):
            _check_train_keys(node[key], below, f"{path}.{key}")


def _check_calls(cfg: DictConfig) -> None:
    """Checks the arguments of every lazy call in a config against its target."""
    for path, node in dicts_in(cfg):
        try:
            accepted = accepted_arguments(node)
        except ImportError as error:
            raise ConfigError(f"{path}._target_={node['_target_']}: {error}") from error
        for key in node if accepted is not None else ():
            if key != "_target_" and key not in accepted:
                target = node["_target_"]
                name = getattr(target, "__qualname__", target)
                raise _unknown_key(path, key, accepted, name)


def _unknown_key(path: str, key: str, known: Iterable[str], owner: str) -> ConfigError:
    near = nearest(f"{path}.{key}", [f"{path}.{name}" for name in known])
    return ConfigError(f"unknown config key {path}.{key}{near}\n{owner} has: {', '.join(known)}")


def _check_device(train: DictConfig) -> None:
    try:
        device = torch.device(train.device)
    except RuntimeError as error:
        raise ConfigError(f"train.device={train.device}: {error}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"train.device={train.device}, but PyTorch {torch.__version__} finds no CUDA GPU.\n"
            "Fix: add train.device=cpu"
        )
    if not train.amp.enabled:
        return
    dtype = train.amp.dtype
    if dtype not in ("bfloat16", "float16"):
        raise ConfigError(f"train.amp.dtype={dtype} is unknown. Fix: use bfloat16 or float16")
    if dtype == "float16" and device.type != "cuda":
        raise ConfigError(f"train.amp.dtype={dtype} needs CUDA. Fix: use train.amp.dtype=bfloat16")


def dataset_names(cfg: DictConfig, part: str) -> list[str]:
    """Returns `cfg.dataloader.<part>.dataset.names` as a list."""
    names = OmegaConf.select(cfg, f"dataloader.{part}.dataset.names")
    if names is None:
        raise ConfigError(
            f"the config has no dataloader.{part}.dataset.names. Fix: set it to a registered "
            "dataset, such as kitti_train"
        )
    return [names] if isinstance(names, str) else list(names)
