"""Read weights from a file or an address, without ever running what a stranger put into it."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from detectron2.utils.file_io import PathManager
from torch import Tensor

from projects.clockdistill.engine import pretrained

_REPOSITORY = Path(__file__).resolve().parents[3]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and the mend."""


def local_path(address: str, key: str) -> str:
    """Return the local file behind a path, a URL or ``torchvision://...``.

    Args:
        address: where the weights are; a relative path starts from the current folder, or from
            the repository.
        key: the config key that gave the address, for the message.

    Raises:
        CheckpointError: if there is no such file, or no way to get it.
    """
    try:
        if address.startswith(pretrained.SCHEME):
            return pretrained.fetch(address)
        shipped = _REPOSITORY / address
        if "://" not in address and not Path(address).exists() and shipped.is_file():
            return str(shipped)  # a config names it from the repository, wherever we run
        path = PathManager.get_local_path(address)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{key}: {error}") from error
    if not Path(path).is_file():
        raise CheckpointError(f"{key}={address}: there is no such file")
    return path


def read(path: str, *, allow_pickle: bool = False) -> dict[str, Any]:
    """Read a whole checkpoint.

    Args:
        path: a local .safetensors file, or one that ``torch.save`` wrote.
        allow_pickle: whether a file that needs pickled code may run it.

    Returns:
        The file's content, with the weights under "model".

    Raises:
        CheckpointError: if the file is damaged, holds no weights or needs pickled code.
    """
    if path.endswith(".safetensors"):
        try:
            return {"model": safetensors.torch.load_file(path)}
        except safetensors.SafetensorError as error:
            raise CheckpointError(_damaged(path, error)) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except pickle.UnpicklingError as error:
        if not re.search(r"Unsupported (global|class)|GLOBAL", str(error)):
            raise CheckpointError(_damaged(path, error)) from error
        raise CheckpointError(needs_pickle(path)) from error
    except (RuntimeError, OSError, EOFError, KeyError, IndexError) as error:
        raise CheckpointError(_damaged(path, error)) from error
    return _with_model(path, content)


def needs_pickle(path: str) -> str:
    """Return the message for a file that is refused because loading it could run any code."""
    return (
        f"{path} holds pickled objects beside tensors; loading it would run code from that file. "
        "If you trust its source, set train.allow_pickle=True"
    )


def is_damaged(path: str) -> bool:
    """Tell whether a file that ``torch.save`` should have written is cut short or garbled."""
    if not zipfile.is_zipfile(path):
        return True
    with zipfile.ZipFile(path) as archive:
        return not any(name.endswith("data.pkl") for name in archive.namelist())


def _damaged(path: str, error: Exception) -> str:
    first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{path} is damaged or no checkpoint at all ({first_line})"


def _with_model(path: str, content: object) -> dict[str, Any]:
    if isinstance(content, Mapping):
        content = dict(content)
        if isinstance(content.get("model"), Mapping):
            return content
        if isinstance(content.get("state_dict"), Mapping):
            content["model"] = content.pop("state_dict")
            return content
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return {"model": content}
        found = ", ".join(str(key) for key in list(content)[:8]) or "nothing"
        raise CheckpointError(f"{path} holds no weights under 'model'; it has: {found}")
    raise CheckpointError(f"{path} holds a {type(content).__name__}, not weights")
