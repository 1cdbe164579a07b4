"""Config files: lookup, loading, the command line's key=value overrides, saving."""

import builtins
import difflib
import inspect
import os
import traceback
from collections.abc import Collection, Iterator, Sequence
from inspect import Parameter
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig
from detectron2.utils.registry import _convert_target_to_string, locate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from projects.clockdistill.engine.atomic import atomic_write
from projects.clockdistill.engine.expected import holds_text, is_plain
from projects.clockdistill.engine.overrides import parse_value
from projects.clockdistill.errors import UserError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ROOT = CONFIGS.parents[2]  # of the repository


class ConfigError(UserError):
    """A config that cannot be run; the message names the key and the fix."""


def load_config(name: str, overrides: Sequence[str]) -> DictConfig:
    """Loads a config.

    Args:
        name: a file, relative to the current folder, to the repository or to
            `projects/clockdistill/configs`; .py or a saved .yaml.
        overrides: "key=value", see `parse_value`.

    Raises:
        ConfigError: if there is no such file, it cannot be read, or an override names no key of
            the config.
    """
    cfg = _read(find_config(name))
    for override in overrides:
        if override.startswith("-"):
            raise ConfigError(f"found {override} after key=value. Fix: write options first")
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"'{override}' is not an override. Fix: write key=value")
        _check_key(cfg, key)
        present = _present(cfg, key)
        try:
            value = parse_value(text, is_text=holds_text(key, present))
            # a lazy call may become a number, other dicts hold what the program needs
            if isinstance(present, DictConfig) and "_target_" not in present and is_plain(value):
                raise ValueError(f"expected one of its keys, {', '.join(map(str, present))}")
            OmegaConf.update(cfg, key, value, merge=True)
        except (OmegaConfBaseException, ValueError) as error:
            raise ConfigError(f"{override}: {_first_line(error)}") from error
    _check_resolves(cfg, {override.partition("=")[0] for override in overrides})
    _expand_home(cfg)
    return cfg


def _read(path: Path) -> DictConfig:
    """Reads a config file: a .py runs, a .yaml does not."""
    original_import = builtins.__import__  # which LazyConfig does not restore after an error
    try:
        if path.suffix == ".py":
            cfg = LazyConfig.load(str(path))
        else:
            cfg = OmegaConf.load(path)
            cfg._set_flag("allow_objects", True)
    except Exception as error:  # a config is a program, which may raise anything
        if path.suffix != ".py" or isinstance(error, OSError):
            raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
        name = type(error).__name__
        raise ConfigError(f"{_place(path, error)}: {name}: {_first_line(error)}") from error
    finally:
        builtins.__import__ = original_import
    if not isinstance(cfg, DictConfig):
        raise ConfigError(f"{path} holds a list. Expected keys: model, dataloader, train, ...")
    return cfg


def _place(path: Path, error: Exception) -> str:
    """Returns the file of a config, or of one that it imports, and the line that failed."""
    if isinstance(error, SyntaxError):
        cause = error.__cause__ or error  # detectron2 wraps it
        return f"{path}, line {cause.lineno}" if isinstance(cause, SyntaxError) else str(path)
    places = [
        f"{frame.f_code.co_filename}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__package__")).startswith("detectron2._cfg_loader")
    ]
    return places[-1] if places else str(path)


def _first_line(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, SyntaxError) and error.__cause__ else error
    lines = str(cause).splitlines()
    return lines[0] if lines else type(error).__name__


def _present(cfg: DictConfig, key: str) -> Any:
    """Returns the value of a key before it is overridden; None where it has none."""
    try:
        return OmegaConf.select(cfg, key)
    except OmegaConfBaseException:
        return None


def _check_resolves(cfg: DictConfig, overridden: Collection[str]) -> None:
    """Refuses interpolations that lead nowhere and values that are still missing ("???")."""
    # the user's own keys first: others may follow from them
    for path, node, key in sorted(leaves(cfg), key=lambda leaf: leaf[0] not in overridden):
        if OmegaConf.is_missing(node, key):
            raise ConfigError(f"{path} has no value. Fix: add {path}=...")
        try:
            node[key]  # resolves it
        except (OmegaConfBaseException, ValueError, RecursionError) as error:
            raw = node._get_node(key)._value()
            raise ConfigError(f"{path}={raw}: {_first_line(error)}") from error


def _expand_home(cfg: DictConfig) -> None:
    """Replaces "~" at the start of every path; a shell does not do it behind `key=`."""
    for _, node, key in leaves(cfg):
        text = node._get_node(key)._value()
        if isinstance(text, str) and text.startswith("~"):
            node[key] = os.path.expanduser(text)


def save_config(cfg: DictConfig, path: Path) -> None:
    """Writes a config as YAML."""
    with atomic_write(path, "w") as handle:
        handle.write(as_yaml(cfg))


def as_yaml(cfg: DictConfig) -> str:
    """Returns a config as YAML with its keys in their order.

    detectron2's own function sorts the keys. A model's parts would then be built in another order
    and draw other initial weights, so that the saved config would not repeat the run.
    """
    content = _targets_by_name(OmegaConf.to_container(cfg, resolve=False))
    return OmegaConf.to_yaml(OmegaConf.create(content, flags={"allow_objects": True}))


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
    paths = [folder / os.path.expanduser(name) for folder in (Path.cwd(), ROOT, CONFIGS)]
    for path in paths:
        if path.is_file() and path.suffix in (".py", ".yaml", ".yml"):
            return path.resolve()
    if any(path.is_file() for path in paths):
        raise ConfigError(f"--config-file {name}: expected a name that ends in .py or .yaml")
    if any(path.is_dir() for path in paths):
        raise ConfigError(f"--config-file {name} is a folder. Fix: name a file in it")
    raise ConfigError(f"--config-file {name}: there is no such file{_nearest_configs(name)}")


def _nearest_configs(name: str) -> str:
    """Returns "; did you mean X or Y?" for the shipped config of the most similar name."""
    shipped = CONFIGS.relative_to(ROOT).as_posix()
    wanted = name.rpartition(f"{shipped}/")[2].removesuffix(".py") + ".py"
    known = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.py"))
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.7)
    if not near:  # the right name in a wrong folder
        stem = Path(wanted).name
        names = difflib.get_close_matches(stem, [Path(k).name for k in known], n=1, cutoff=0.6)
        near = [one for one in known if Path(one).name in names][:2]
    if not near:
        return f".\nFix: name one of the files in {shipped}"
    return f"; did you mean {' or '.join(f'{shipped}/{one}' for one in near)}?"


def accepted_arguments(node: DictConfig) -> list[str] | None:
    """Returns the names that the target of a lazy call accepts.

    Args:
        node: any part of a config.

    Returns:
        None if the node is not a lazy call, or its target accepts any name.

    Raises:
        ImportError: if the target is a path to nothing.
    """
    parameters = _parameters(node)
    if parameters is None or any(p.kind is Parameter.VAR_KEYWORD for p in parameters):
        return None
    return _names(parameters)


def named_arguments(node: DictConfig) -> list[str]:
    """Returns the names of a lazy call's arguments, also if its target accepts any other name."""
    return _names(_parameters(node) or ())


def _names(parameters: Collection[Parameter]) -> list[str]:
    by_name = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.kind in by_name]


def _parameters(node: DictConfig) -> Collection[Parameter] | None:
    target = node.get("_target_")
    if isinstance(target, str):
        try:
            target = locate(target)
        except Exception as error:  # also what the named module raises while it is imported
            raise ImportError(" ".join(str(error).split())) from error
    if not callable(target):
        return None
    try:
        return inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return None


def _known_arguments(node: DictConfig) -> list[str]:
    """Returns the names that the target of a lazy call accepts, as far as they are known."""
    try:
        return named_arguments(node)
    except ImportError:  # `check_calls` names the target
        return []


def nearest(name: str, known: list[str]) -> str:
    """Returns "; did you mean X?" for the closest known name, or an empty string."""
    leaf = name.rpartition(".")[2]
    # the right word in the wrong place is likelier than two similar words
    elsewhere = [key for key in known if key.rpartition(".")[2] == leaf]
    # a teacher's settings follow the student's, or its checkpoint
    elsewhere = [key for key in elsewhere if not key.startswith("model.teacher.")] or elsewhere
    near = difflib.get_close_matches(name, elsewhere, n=1, cutoff=0.0)
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _check_key(cfg: DictConfig, key: str) -> None:
    """Refuses a key that omegaconf would silently add."""
    node = cfg
    parts = key.split(".")
    for index, part in enumerate(parts):
        if isinstance(node, ListConfig) and part.isdigit() and int(part) < len(node):
            node = node._get_node(int(part))
        elif isinstance(node, DictConfig) and part in list(node):
            node = node._get_node(part)
        elif (
            index == len(parts) - 1
            and isinstance(node, DictConfig)
            and part in _known_arguments(node)
        ):
            return  # an argument that the config leaves at its default
        else:
            raise ConfigError(f"unknown config key {key}{nearest(key, _all_keys(cfg))}")


def _all_keys(cfg: DictConfig) -> list[str]:
    """Returns the dotted keys of a config, with the arguments that its calls leave at defaults."""
    return [
        f"{path}.{key}" if path else key
        for path, node in dicts_in(cfg)
        for key in dict.fromkeys([*node, *_known_arguments(node)])
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


def leaves(
    node: DictConfig | ListConfig, path: str = ""
) -> Iterator[tuple[str, DictConfig | ListConfig, Any]]:
    """Yields the dotted key of every value of a config, with its dict or list and its key there.

    Interpolations are not followed.
    """
    for key in range(len(node)) if isinstance(node, ListConfig) else list(node):
        where = f"{path}.{key}" if path else str(key)
        child = node._get_node(key)
        if OmegaConf.is_config(child) and isinstance(child._value(), dict | list):
            yield from leaves(child, where)
        else:
            yield where, node, key
