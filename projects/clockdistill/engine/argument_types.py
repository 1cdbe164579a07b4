"""Whether values fit the annotations of the arguments that they are for."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig
from torch import nn

from projects.clockdistill.engine.expected import is_number, is_plain, is_whole

_NAMES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "null",
}


def misfit(target: Callable, argument: str, value: Any) -> str | None:
    """Returns in words what an argument must be, if a value is not that; else None.

    Only annotations of plain values, lists, dicts and modules are compared. The argument's own
    default always fits.

    Args:
        target: a class or a function.
        argument: name of an argument.
        value: what a config gives it.
    """
    try:
        parameter = inspect.signature(target).parameters[argument]
        called = target.__init__ if inspect.isclass(target) else target
        annotation = typing.get_type_hints(called)[argument]
    except (AttributeError, KeyError, NameError, TypeError, ValueError):
        return None  # no annotation, or one that cannot be read
    if value is parameter.default or _fits(value, annotation):
        return None
    return _words(annotation)


def _fits(value: Any, annotation: Any) -> bool:
    if isinstance(value, DictConfig) and "_target_" in value:
        return True  # a lazy call may return anything
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is typing.Literal:
        return value in arguments
    if annotation is bool:
        return isinstance(value, bool)
    if annotation is int:
        return is_whole(value)
    if annotation is float:
        return is_number(value)
    if annotation is str:
        return isinstance(value, str)
    if annotation is type(None):
        return value is None
    kind = origin or annotation
    if not inspect.isclass(kind):
        return True
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping | DictConfig)
    if issubclass(kind, list | tuple | Sequence):
        return _is_sequence_of(value, arguments)
    if issubclass(kind, nn.Module):
        return not is_plain(value)
    return True


def _is_sequence_of(value: Any, arguments: tuple) -> bool:
    if not isinstance(value, list | tuple | ListConfig):
        return False
    if not arguments:
        return True
    if len(arguments) > 1 and arguments[-1] is not ...:  # tuple[int, int]
        pairs = zip(value, arguments, strict=False)
        return len(value) == len(arguments) and all(_fits(*pair) for pair in pairs)
    return all(_fits(one, arguments[0]) for one in value)


def _words(annotation: Any) -> str:
    if annotation in _NAMES:
        return _NAMES[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(one) for one in arguments)
    if origin is typing.Literal:
        return " or ".join(map(repr, arguments))
    kind = origin or annotation
    if issubclass(kind, Mapping):
        return "a dict"
    if issubclass(kind, list | tuple | Sequence):
        if len(arguments) > 1 and arguments[-1] is not ...:
            return f"a list of {len(arguments)}: {', '.join(map(_words, arguments))}"
        return "a list" if not arguments else f"a list, each {_words(arguments[0])}"
    return f"a {getattr(kind, '__name__', kind)}"
