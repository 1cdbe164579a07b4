"""Find and load a config file, and apply the command line's key=value overrides to it."""

import difflib
from pathlib import Path

from detectron2.config import LazyConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from projects.clockdistill.engine.call_arguments import accepted_arguments

_CONFIGS = Path(__file__).resolve().parents[1] / "configs"
_REPOSITORY = _CONFIGS.parents[2]


class ConfigError(ValueError):
    """A config that cannot be run; the message names the key and the mend."""


def load_config(name: str, overrides: list[str]) -> DictConfig:
    """Load a config.

    Args:
        name: a file, relative to the current folder, to the repository or to
            ``projects/clockdistill/configs``; .py or a saved .yaml.
        overrides: "key=value", in detectron2's (hydra's) grammar.

    Raises:
        ConfigError: if there is no such file, it imports what is not there, or an override names
            no key of the config.
    """
    path = find_config(name)
    try:
        cfg = LazyConfig.load(str(path))
    except ImportError as error:
        raise ConfigError(f"{path}: {error}") from error
    for override in overrides:
        if override.startswith("-"):
            raise ConfigError(f"{override} must stand before the first key=value")
        key, equals, _ = override.partition("=")
        if not equals:
            raise ConfigError(f"'{override}' is no override: write key=value")
        _check_key(cfg, key)
    return LazyConfig.apply_overrides(cfg, overrides)


def find_config(name: str) -> Path:
    """Return the absolute path of a config file; see :func:`load_config`."""
    if not name:
        raise ConfigError(
            "no config: --config-file projects/clockdistill/configs/dino_r18_kitti.py"
        )
    for folder in (Path.cwd(), _REPOSITORY, _CONFIGS):
        path = folder / name
        if path.is_file():
            return path.resolve()
    known = [str(path.relative_to(_CONFIGS)) for path in _CONFIGS.rglob("*.py")]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
    hint = f"; did you mean {_CONFIGS.relative_to(_REPOSITORY) / near[0]}?" if near else ""
    raise ConfigError(f"--config-file {name}: there is no such file{hint}")


def nearest(name: str, known: list[str]) -> str:
    """Return "; did you mean X?" for the closest known name, or nothing."""
    leaf = name.rpartition(".")[2]
    # the right word in the wrong place is likelier than two near words
    elsewhere = [key for key in known if key.rpartition(".")[2] == leaf]
    near = difflib.get_close_matches(name, elsewhere, n=1, cutoff=0.0)
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _check_key(cfg: DictConfig, key: str) -> None:
    """Refuse a key that omegaconf would silently add."""
    node = cfg
    for part in key.split("."):
        if isinstance(node, ListConfig) and part.isdigit() and int(part) < len(node):
            node = node._get_node(int(part))
        elif isinstance(node, DictConfig) and part in list(node):
            node = node._get_node(part)
        elif isinstance(node, DictConfig) and part in (accepted_arguments(node) or ()):
            return  # an argument that was left at its default
        else:
            raise ConfigError(f"unknown config key {key}{nearest(key, _all_keys(cfg))}")


def _all_keys(node: DictConfig | ListConfig, prefix: str = "") -> list[str]:
    """Return the dotted keys of a tree, with the arguments that its calls leave at defaults."""
    found = []
    keys = range(len(node)) if isinstance(node, ListConfig) else list(node)
    for key in keys:
        found.append(f"{prefix}{key}")
        if OmegaConf.is_interpolation(node, key) or OmegaConf.is_missing(node, key):
            continue
        if isinstance(node[key], (DictConfig, ListConfig)):
            found += _all_keys(node[key], f"{prefix}{key}.")
    if isinstance(node, DictConfig):
        found += [f"{prefix}{name}" for name in accepted_arguments(node) or () if name not in node]
    return [key for key in found if not key.endswith("_target_")]
