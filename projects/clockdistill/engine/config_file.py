"""Config files: lookup, loading, the command line's key=value overrides, saving."""

import difflib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig
from detectron2.utils.registry import _convert_target_to_string, locate
from omegaconf import DictConfig, ListConfig, OmegaConf

from projects.clockdistill.engine.atomic import atomic_write
from projects.clockdistill.errors import UserError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ROOT = CONFIGS.parents[2]  # of the repository


class ConfigError(UserError):
    """A config that cannot be run; the message names the key and the fix."""


def load_config(name: str, overrides: list[str]) -> DictConfig:
    """Loads a config.

    Args:
        name: a file, relative to the current folder, to the repository or to
            `projects/clockdistill/configs`; .py or a saved .yaml.
        overrides: "key=value", in detectron2's (hydra's) grammar.

    Raises:
        ConfigError: if there is no such file, an import in it fails, or an override names no key
            of the config.
    """
    path = find_config(name)
    try:
        cfg = LazyConfig.load(str(path))
    except ImportError as error:
        raise ConfigError(f"{path}: {error}") from error
    for override in overrides:
        if override.startswith("-"):
            raise ConfigError(f"found {override} after key=value. Fix: write options first")
        key, equals, _ = override.partition("=")
        if not equals:
            raise ConfigError(f"'{override}' is not an override. Fix: write key=value")
        _check_key(cfg, key)
    return LazyConfig.apply_overrides(cfg, overrides)


def save_config(cfg: DictConfig, path: Path) -> None:
    """Writes a config as YAML with its keys in their order.

    detectron2's own function sorts the keys. A model's parts would then be built in another order
    and draw other initial weights, so that the saved config would not repeat the run.
    """
    content = _targets_by_name(OmegaConf.to_container(cfg, resolve=False))
    cfg = OmegaConf.create(content, flags={"allow_objects": True})
    with atomic_write(path, "w") as handle:
        handle.write(OmegaConf.to_yaml(cfg))


def _targets_by_name(node: Any) -> Any:
    """Replaces the target of every lazy call by its name."""
    if isinstance(node, dict):
        node = {key: _targets_by_name(value) for key, value in node.items()}
        if callable(node.get("_target_")):
            node["_target_"] = _convert_target_to_string(node["_target_"])
        return node
    return [_targets_by_name(value) for value in node] if isinstance(node, list) else node


def find_config(name: str) -> Path:
    """Returns the absolute path of a config file; `load_config` lists the folders."""
    if not name:
        raise ConfigError(
            "no config given. Fix: add --config-file projects/clockdistill/configs/<name>.py"
        )
    for folder in (Path.cwd(), ROOT, CONFIGS):
        path = folder / name
        if path.is_file():
            return path.resolve()
    known = [str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.py")]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
    hint = f"; did you mean {CONFIGS.relative_to(ROOT) / near[0]}?" if near else ""
    raise ConfigError(f"--config-file {name}: there is no such file{hint}")


def accepted_arguments(node: DictConfig) -> list[str] | None:
    """Returns the names that the target of a lazy call accepts.

    Args:
        node: any part of a config.

    Returns:
        None if the node is not a lazy call, or its target accepts any name.

    Raises:
        ImportError: if the target is a path to nothing.
    """
    target = node.get("_target_")
    if isinstance(target, str):
        target = locate(target)
    if not callable(target):
        return None
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return None
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return None
    return [p.name for p in parameters if p.kind is not inspect.Parameter.POSITIONAL_ONLY]


def nearest(name: str, known: list[str]) -> str:
    """Returns "; did you mean X?" for the closest known name, or an empty string."""
    leaf = name.rpartition(".")[2]
    # the right word in the wrong place is likelier than two similar words
    elsewhere = [key for key in known if key.rpartition(".")[2] == leaf]
    near = difflib.get_close_matches(name, elsewhere, n=1, cutoff=0.0)
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _check_key(cfg: DictConfig, key: str) -> None:
    """Refuses a key that omegaconf would silently add."""
    node = cfg
    for part in key.split("."):
        if isinstance(node, ListConfig) and part.isdigit() and int(part) < len(node):
            node = node._get_node(int(part))
        elif isinstance(node, DictConfig) and part in list(node):
            node = node._get_node(part)
        elif isinstance(node, DictConfig) and part in (accepted_arguments(node) or ()):
            return  # an argument that the config leaves at its default
        else:
            raise ConfigError(f"unknown config key {key}{nearest(key, _all_keys(cfg))}")


def _all_keys(cfg: DictConfig) -> list[str]:
    """Returns the dotted keys of a config, with the arguments that its calls leave at defaults."""
    return [
        f"{path}.{key}" if path else key
        for path, node in dicts_in(cfg)
        for key in dict.fromkeys([*node, *(accepted_arguments(node) or ())])
        if key != "_target_"
    ]


def dicts_in(node: DictConfig | ListConfig, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Yields a config and every dict in it with its dotted key; interpolations are not followed."""
    if isinstance(node, DictConfig):
        yield path, node
    for key in range(len(node)) if isinstance(node, ListConfig) else list(node):
        if OmegaConf.is_interpolation(node, key) or OmegaConf.is_missing(node, key):
            continue
        if OmegaConf.is_config(node[key]):
            yield from dicts_in(node[key], f"{path}.{key}" if path else str(key))
