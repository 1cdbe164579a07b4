"""Lets a detector take over what was computed before, instead of computing it again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def replayed(outputs: Mapping[nn.Module, Any]) -> Iterator[None]:
    """Within this context modules return what they are given here and do not run; hooks do.

    Args:
        outputs: module -> what it returns, whatever it is called with.
    """
    for module, output in outputs.items():
        module.forward = _returning(output)
    try:
        yield
    finally:
        for module in outputs:
            del module.forward  # the class's own comes to light again


def _returning(output: Any) -> Any:
    return lambda *args, **kwargs: output
