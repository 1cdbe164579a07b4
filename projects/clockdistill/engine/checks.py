"""Checks that refuse a config before any work is done."""

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.utils.registry import locate
from omegaconf import DictConfig, ListConfig, OmegaConf

from projects.clockdistill.engine.argument_types import misfit
from projects.clockdistill.engine.config_file import (
    CONFIGS,
    ConfigError,
    accepted_arguments,
    dicts_in,
    nearest,
)
from projects.clockdistill.engine.data_config import check_unlabelled, evaluator_calls
from projects.clockdistill.engine.expected import Expected, expected_of, is_number, like
from projects.clockdistill.errors import UserError
from projects.clockdistill.modeling.detectors.base import Detector
from projects.clockdistill.modeling.detectors.layers.deformable_sampling import VARIABLE, backend

_COMMON = CONFIGS / "common"
_RETIRED = ("train.allow_pickle",)  # keys in configs of earlier runs that change nothing now
_TOP_LEVEL = ("model", "dataloader", "optimizer", "lr_multiplier", "train")
_LAZY_CALLS = (
    *("model", "optimizer", "optimizer.params", "lr_multiplier"),
    *("dataloader.train", "dataloader.test"),
)
_SHOWN = 80  # characters of a value in a message
# what constructors raise for arguments that they cannot use
_REFUSALS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def check_config(cfg: DictConfig) -> None:
    """Checks keys, types and ranges of all values, the device, and what is cheap to build.

    Raises:
        ConfigError: with the key, its value, what was expected, and the fix.
    """
    for key in _TOP_LEVEL:
        if key not in cfg:
            raise ConfigError(
                f"the config has no {key}; it needs {', '.join(_TOP_LEVEL)}.\n"
                f"Fix: import what is missing from {_COMMON}"
            )
        if not isinstance(cfg[key], DictConfig):
            raise ConfigError(f"{key}={cfg[key]}: expected the keys of a config file, not a value")
    calls = {key: OmegaConf.select(cfg, key) for key in _LAZY_CALLS}
    require_lazy_calls(calls | evaluator_calls(cfg.dataloader))
    schema = LazyConfig.load(str(_COMMON / "train.py")).train
    _check_train_keys(cfg.train, schema, "train")
    check_values(cfg)
    check_calls(cfg)
    check_channel_order(cfg.model)
    check_device(cfg.train.device, "train.device")
    _check_precision(cfg.train)
    if cfg.train.early_stopping and not cfg.train.eval_period:
        raise ConfigError(
            f"train.early_stopping={cfg.train.early_stopping} counts evaluations, but "
            "train.eval_period=0 evaluates at the end only.\nFix: set train.eval_period to some "
            "steps, or train.early_stopping=0"
        )
    _check_sampling(cfg.train.device)
    check_solver(cfg)
    check_unlabelled(cfg)
    for part in ("train", "test"):
        key = f"dataloader.{part}.mapper"
        if "mapper" in cfg.dataloader[part]:
            mapper = OmegaConf.select(cfg, key)
            if not callable(mapper if not isinstance(mapper, DictConfig) else build(mapper, key)):
                raise ConfigError(f"{key}={mapper}: expected a data mapper, such as DetrMapper")


def require_lazy_calls(nodes: Mapping[str, Any]) -> None:
    """Refuses parts of a config, by their keys, that are no lazy calls.

    Raises:
        ConfigError: with the key and its value.
    """
    for key, node in nodes.items():
        if not (isinstance(node, DictConfig) and "_target_" in node):
            raise ConfigError(f"{key}={node}: expected a lazy call, LazyCall(...)(...) in a config")


def check_channel_order(model: DictConfig) -> None:
    """Refuses BGR for detectors that do not reorder the images, such as detrex's.

    Raises:
        ConfigError: with the key and the fix.
    """
    for path, node in dicts_in(model, "model"):
        target = node.get("_target_")
        target = locate(target) if isinstance(target, str) else target
        ours = isinstance(target, type) and issubclass(target, Detector)
        if node.get("input_format") == "BGR" and not ours:
            raise ConfigError(
                f"{path}.input_format=BGR: {getattr(target, '__qualname__', target)} reads images "
                "as they come, in RGB order.\nFix: use RGB, and weights that were trained so"
            )


def _check_sampling(device: str) -> None:
    """Checks that a backend which the environment forces can be used on the device."""
    if os.environ.get(VARIABLE):
        try:
            backend(torch.device(device).type)
        except RuntimeError as error:
            raise ConfigError(str(error)) from error


def _check_train_keys(node: DictConfig, schema: DictConfig, path: str) -> None:
    """Checks a node against `schema`, which gives each key its default: keys and types."""
    for key in node:
        if key not in schema and f"{path}.{key}" not in _RETIRED:
            raise _unknown_key(path, key, schema, path)
    for key, below in schema.items():
        where = f"{path}.{key}"
        if key not in node:
            raise ConfigError(
                f"the config has no {where}. Fix: import train from configs/common/train.py "
                "and change what differs"
            )
        if isinstance(below, DictConfig):
            if not isinstance(node[key], DictConfig):
                raise ConfigError(f"{where}={node[key]}: expected the keys {', '.join(below)}")
            _check_train_keys(node[key], below, where)
        elif expected_of(where) is None:
            _require(where, node[key], like(below))


def check_values(cfg: DictConfig, path: str = "") -> None:
    """Checks types and ranges of all values that the table of `expected.py` names.

    Args:
        cfg: a config, or a part of it.
        path: the key of that part.

    Raises:
        ConfigError: with the key, its value and what was expected.
    """
    for parent, node in dicts_in(cfg, path):
        for key in node:
            where = f"{parent}.{key}" if parent else str(key)
            _require(where, node[key], expected_of(where))


def _require(key: str, value: Any, expected: Expected | None) -> None:
    if expected is None or expected.holds(value):
        return
    raise _unexpected(key, value, expected.words)


def _unexpected(key: str, value: Any, words: str) -> ConfigError:
    if isinstance(value, DictConfig | ListConfig):
        value = OmegaConf.to_container(value)
    shown = "null" if value is None else str(value)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    is_round = isinstance(value, float) and value.is_integer() and words.startswith("a whole")
    fix = f". Fix: {key}={int(value)}" if is_round else ""
    return ConfigError(f"{key}={shown}: expected {words}{fix}")


def check_calls(cfg: DictConfig, path: str = "") -> None:
    """Checks the arguments of every lazy call in a config against its target.

    Args:
        cfg: a config, or a part of it.
        path: the key of that part.

    Raises:
        ConfigError: with the key, and what the target takes.
    """
    for where, node in dicts_in(cfg, path):
        try:
            accepted = accepted_arguments(node)
        except ImportError as error:
            raise ConfigError(f"{where}._target_={node['_target_']}: {error}") from error
        target = node.get("_target_")
        if target is None:
            continue
        target = locate(target) if isinstance(target, str) else target
        if not callable(target):
            raise ConfigError(f"{where}._target_={target}: expected a class or a function")
        for key in node:
            if key == "_target_":
                continue
            if accepted is not None and key not in accepted:
                name = getattr(target, "__qualname__", target)
                raise _unknown_key(where, key, accepted, name)
            words = misfit(target, key, node[key])
            if words is not None:
                raise _unexpected(f"{where}.{key}", node[key], words)


def _unknown_key(path: str, key: str, known: Iterable[str], owner: str) -> ConfigError:
    near = nearest(f"{path}.{key}", [f"{path}.{name}" for name in known])
    return ConfigError(f"unknown config key {path}.{key}{near}\n{owner} has: {', '.join(known)}")


def check_device(name: Any, key: str) -> str:
    """Checks that torch has a device.

    Args:
        name: such as "cpu" or "cuda:1".
        key: the config key or option that names it, for the message.

    Returns:
        The name.

    Raises:
        ConfigError: if torch knows no such device or finds none.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"{key}={name}: expected a device such as cpu or cuda") from error
    if device.type == "cpu":
        return name
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if found is None or device.type != found.type:
        raise ConfigError(
            f"{key}={name}, but PyTorch {torch.__version__} finds no such device.\n"
            f"Fix: use {key}={'cpu' if found is None else found.type}"
        )
    if device.index is not None and device.index >= torch.accelerator.device_count():
        raise ConfigError(
            f"{key}={name}, but PyTorch finds {torch.accelerator.device_count()} such device(s).\n"
            f"Fix: use {key}={device.type}"
        )
    return name


def _check_precision(train: DictConfig) -> None:
    on_gpu = torch.device(train.device).type == "cuda"
    if train.amp.enabled and train.amp.dtype == "float16" and not on_gpu:
        raise ConfigError("train.amp.dtype=float16 needs CUDA. Fix: use train.amp.dtype=bfloat16")


def check_solver(cfg: DictConfig) -> None:
    """Builds the optimizer for one weight, and the schedule, as training will for the model.

    Raises:
        ConfigError: with the key, if they refuse their values.
    """
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    build(cfg.optimizer, "optimizer", params=[weight])
    schedule = build(cfg.lr_multiplier, "lr_multiplier")
    for progress in (0.0, 0.5, 1.0 - 1e-6):
        try:
            factor = schedule(progress)
        except Exception as error:
            raise ConfigError(f"lr_multiplier at {progress:.0%} of the run: {error}") from error
        if not (is_number(factor) and 0 <= factor < math.inf):
            raise ConfigError(
                f"lr_multiplier gives {factor} at {progress:.0%} of the run: expected a factor of "
                "optimizer.lr, a finite number of at least 0"
            )


def build(node: DictConfig, key: str, **arguments: Any) -> Any:
    """Builds what a lazy call describes; what a constructor refuses is the config's mistake.

    Args:
        node: a lazy call.
        key: of the node in the config.
        **arguments: of the call, instead of the node's own.

    Raises:
        ConfigError: with the key of the innermost call that fails, and its message.
    """
    try:
        return instantiate({**node, **arguments} if arguments else node)
    except UserError as error:
        raise ConfigError(f"{key}: {error}") from error
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except _REFUSALS as error:
        found = error
        given = tuple(f"{key}.{name}" for name in arguments)  # not built from the config
        for path, below in reversed(list(dicts_in(node, key))):
            if "_target_" in below and path != key and not path.startswith(given):
                try:
                    instantiate(below)
                except _REFUSALS as inner:
                    key, found = path, inner
                    break
        lines = str(found).splitlines() or [type(found).__name__]
        raise ConfigError(f"{key}: {lines[0]}") from error
