"""Checks that refuse a config before any work is done."""

from collections.abc import Iterable

import torch
from detectron2.config import LazyConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from projects.clockdistill.engine.config_file import (
    CONFIGS,
    ConfigError,
    accepted_arguments,
    nearest,
)

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
    _check_calls(cfg, "")
    _check_device(cfg.train)


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


def _check_calls(node: DictConfig | ListConfig, path: str) -> None:
    """Checks the arguments of every lazy call in a config against its target."""
    if isinstance(node, DictConfig):
        try:
            accepted = accepted_arguments(node)
        except ImportError as error:
            raise ConfigError(f"{path}._target_={node['_target_']}: {error}") from error
        for key in node if accepted is not None else ():
            if key != "_target_" and key not in accepted:
                target = node["_target_"]
                name = getattr(target, "__qualname__", target)
                raise _unknown_key(path, key, accepted, name)
    for key in range(len(node)) if isinstance(node, ListConfig) else list(node):
        if OmegaConf.is_interpolation(node, key) or OmegaConf.is_missing(node, key):
            continue
        if isinstance(node[key], (DictConfig, ListConfig)):
            _check_calls(node[key], f"{path}.{key}" if path else str(key))


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
