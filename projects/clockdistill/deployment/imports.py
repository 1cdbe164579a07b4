"""Packages that only exported files need."""

import importlib
from types import ModuleType

from projects.clockdistill.engine.config_file import ConfigError


def import_extra(name: str) -> ModuleType:
    """Imports a package of the extra `export`.

    Raises:
        ConfigError: if it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"cannot import {name} ({error}).\nFix: pip install -e '.[export]'"
        ) from error
