"""Pickled files read without running anything that they name.

A pickle is a program: it names functions and calls them. Here a name stands for numpy's arrays or
a plain container; any other ends the reading, or stands for an object that does nothing.
"""

import argparse
import collections
import contextlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals


class UnsafePickle(ValueError):
    """A file that names something else than arrays and containers; the message is that name."""


# The same functions under the names that numpy 1 and numpy 2 write. Each takes numbers, bytes and
# lists that were read in the same way, and none imports or calls what a file names.
_reconstruct = np.empty(0).__reduce__()[0]
_scalar = np.float64(0).__reduce__()[0]
_NUMPY = {
    **{f"{core}.multiarray._reconstruct": _reconstruct for core in ("numpy.core", "numpy._core")},
    **{f"{core}.multiarray.scalar": _scalar for core in ("numpy.core", "numpy._core")},
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
}


class _Latin1:
    """`codecs.encode` for the one encoding in which pickles of protocol 2 store bytes."""

    __slots__ = ()  # a pickle may set attributes of what it names

    def __call__(self, text: str, encoding: str) -> bytes:
        """Returns the bytes; other encodings, such as zlib, are refused."""
        if encoding != "latin1":
            raise UnsafePickle(f"_codecs.encode to {encoding}")
        return text.encode(encoding)


_PLAIN: dict[str, Callable] = {
    **_NUMPY,
    "collections.OrderedDict": collections.OrderedDict,
    "_codecs.encode": _Latin1(),
}
# Classes of numpy's dtypes, which torch's reader wants to know by themselves.
_DTYPES = [type(np.dtype(code)) for code in "?bBhHiIlLqQefd"]
# Modules whose names nobody needs to store weights.
_DANGEROUS = {
    *("builtins", "__builtin__", "os", "posix", "nt", "sys", "subprocess", "commands", "shutil"),
    *("importlib", "runpy", "code", "pty", "socket", "ctypes", "operator", "functools", "types"),
    *("pickle", "_pickle", "marshal", "webbrowser", "platform", "tempfile", "multiprocessing"),
}


class _LeftOut:
    """Stands for an object of a class that is not read."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "_LeftOut":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """Knows the names of `_PLAIN` alone."""

    def find_class(self, module: str, name: str) -> Callable:
        """Returns what a name stands for; called by the base class for every name."""
        try:
            return _PLAIN[f"{module}.{name}"]
        except KeyError:
            raise UnsafePickle(f"{module}.{name}") from None


def load_plain(path: str | Path) -> Any:
    """Reads a pickle of arrays and containers, such as those of detectron2's model zoo.

    Raises:
        UnsafePickle: if it names anything else; nothing is called then.
        Exception: of any other class, if the file is damaged.
    """
    with open(path, "rb") as handle:
        return _Unpickler(handle, encoding="latin1").load()


def load_torch(path: str | Path) -> tuple[Any, list[str]]:
    """Reads a file that `torch.save` wrote; objects of unknown classes are left out.

    Original repositories store their command line next to the weights, for example.

    Returns:
        The content, with tensors on the CPU, and the names of the classes that were left out.

    Raises:
        UnsafePickle: if the file names a function that runs commands or code.
        pickle.UnpicklingError: if it holds more than that; nothing is called then.
        Exception: of any other class, if the file is damaged.
    """
    known = [(value, name) for name, value in _NUMPY.items()]
    known += [*_DTYPES, argparse.Namespace]
    with open(path, "rb") as handle, safe_globals(known):
        left_out = []
        with contextlib.suppress(ValueError):  # older than torch 1.6: not a zip file
            left_out = sorted(get_unsafe_globals_in_checkpoint(handle))
        for name in left_out:
            if name.partition(".")[0] in _DANGEROUS:
                raise UnsafePickle(name)
        with safe_globals([(_LeftOut, name) for name in left_out]):
            handle.seek(0)
            return torch.load(handle, map_location="cpu", weights_only=True), left_out
