"""Which arguments a lazy call's target takes."""

import inspect

from detectron2.utils.registry import locate
from omegaconf import DictConfig


def accepted_arguments(node: DictConfig) -> list[str] | None:
    """Return the names that the target of a lazy call accepts.

    Args:
        node: any part of a config.

    Returns:
        None if the node is no lazy call, or its target takes any name.

    Raises:
        ImportError: if the target is named by a path that leads nowhere.
    """
    target = node.get("_target_")
    if isinstance(target, str):
        target = locate(target)
    if not callable(target):
        return None
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # some builtins do not tell
        return None
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return None
    return [p.name for p in parameters if p.kind is not inspect.Parameter.POSITIONAL_ONLY]
