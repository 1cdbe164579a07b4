"""The choice between the fast forms of some operations and plain torch operators."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_plain = ContextVar("plain", default=False)


@contextmanager
def plain_operators() -> Iterator[None]:
    """Within this context the layers compute with torch's own operators only.

    For exporters, converters and counters of multiply-adds, which need a graph of known operators
    that holds nothing but the model: sampling is `grid_sample`, nothing runs in chunks, attention
    pads no values. The numbers are equal up to rounding; training and inference run faster without.
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def use_plain_operators() -> bool:
    """Returns whether the caller runs within `plain_operators`."""
    return _plain.get()
