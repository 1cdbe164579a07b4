"""Weights from a file or an address, read without running code from the file."""

import logging
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import safetensors.torch
import torch
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch import Tensor
from torchvision.models import ResNet18_Weights, ResNet50_Weights, ResNet101_Weights

from projects.clockdistill.engine.config_file import ROOT
from projects.clockdistill.engine.file_kinds import PICKLE, SAFETENSORS, NotWeights, kind_of
from projects.clockdistill.engine.safe_pickle import UnsafePickle, load_plain, load_torch
from projects.clockdistill.errors import UserError

logger = logging.getLogger(__name__)

_TORCHVISION = "torchvision://"
# the first version of the weights, from which the DETR family's published results start
_IMAGENET = {
    "resnet18": ResNet18_Weights.IMAGENET1K_V1,
    "resnet50": ResNet50_Weights.IMAGENET1K_V1,
    "resnet101": ResNet101_Weights.IMAGENET1K_V1,
}
# keys under which others keep the weights: mmdetection and Lightning; pycls; Detectron 1
_MODEL_KEYS = ("model", "state_dict", "model_state", "model_state_dict", "blobs")


class CheckpointError(UserError):
    """A checkpoint that cannot be used; the message names the file and the fix."""


def local_path(address: str, key: str) -> str:
    """Returns the local file of a path, a URL or `torchvision://resnet18|50|101`.

    Args:
        address: location of the weights; a relative path is looked up in the current folder, then
            in the repository.
        key: the config key that holds the address, for the message.

    Raises:
        CheckpointError: if there is no such file, or it cannot be downloaded.
    """
    if address.startswith(_TORCHVISION):
        return _imagenet_weights(address, key)
    shipped = ROOT / address
    if "://" not in address and not Path(address).exists() and shipped.is_file():
        return str(shipped)
    try:
        path = PathManager.get_local_path(address)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{key}={address}: {error}") from error
    if Path(path).is_dir():
        inside = Path(path) / "model_final.pth"
        fix = f"use {inside}" if inside.is_file() else "name a file in it"
        raise CheckpointError(f"{key}={address} is a folder, expected a file.\nFix: {fix}")
    if not Path(path).is_file():
        raise CheckpointError(f"{key}={address}: there is no such file")
    return path


def _imagenet_weights(address: str, key: str) -> str:
    """Returns the file of torchvision's ResNet, which the main process downloads if necessary."""
    name = address.removeprefix(_TORCHVISION)
    if name not in _IMAGENET:
        known = ", ".join(_TORCHVISION + known for known in _IMAGENET)
        raise CheckpointError(f"{key}={address} is unknown. Fix: use one of {known}")
    url = _IMAGENET[name].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    reason = ""
    if comm.is_main_process() and not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        # torchvision puts the start of the file's hash into its name
        hash_prefix = path.stem.rpartition("-")[2]
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix, progress=False)
        except (OSError, RuntimeError) as error:  # no network, or a file with another hash
            reason = f" ({error})"
    comm.synchronize()
    if path.is_file():
        return str(path)
    raise CheckpointError(
        f"{key}={address}: cannot download the ImageNet weights{reason}.\n"
        f"Fix: download {url} to {path}, or name a local file with {key}=PATH, or start from "
        f'scratch with {key}=""'
    )


def read(path: str) -> dict[str, Any]:
    """Reads a whole checkpoint; nothing that it names is run.

    Args:
        path: a local file: safetensors, of `torch.save`, or a pickle of arrays as in detectron2's
            model zoo. Its content decides, not its suffix.

    Returns:
        The content of the file, with the weights, tensors on the CPU, under "model".

    Raises:
        CheckpointError: if the file is of another kind, damaged, without weights or running code.
    """
    try:
        kind = kind_of(path)
        if kind == SAFETENSORS:
            with safetensors.safe_open(path, "pt") as file:
                spec = (file.metadata() or {}).get("model_spec")
            model = {"model": safetensors.torch.load_file(path)}
            return model if spec is None else {**model, "model_spec": spec}
        content, left_out = (load_plain(path), []) if kind == PICKLE else load_torch(path)
    except NotWeights as error:
        raise CheckpointError(f"{path} {error}") from error
    except UnsafePickle as error:
        raise _unsafe(path, str(error)) from error
    except pickle.UnpicklingError as error:
        name = re.search(r"(?:GLOBAL|global|class) ([\w.]+\.\w+)", str(error))
        raise (_unsafe(path, name[1]) if name else _damaged(path, error)) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # a garbled pickle raises anything
        raise _damaged(path, error) from error
    if left_out:
        logger.warning(
            "%s also holds objects of %s, which were neither run nor read",
            path,
            ", ".join(left_out),
        )
    try:
        return _with_model(path, content)
    except CheckpointError as error:
        if not left_out:
            raise
        raise CheckpointError(
            f"{path} holds no weights by name, but objects of {', '.join(left_out[:3])}, ...\n"
            "Fix: ask its author for torch.save(model.state_dict(), ...) or a .safetensors file"
        ) from error


def _unsafe(path: str, name: str) -> CheckpointError:
    return CheckpointError(
        f"{path} names {name}, which loading would run; nothing of it was run or read.\n"
        "Fix: ask its author for a file with nothing but weights, such as .safetensors"
    )


def _damaged(path: str, error: Exception) -> CheckpointError:
    # torch's advice to read the file with its code is not repeated
    first_line = str(error).splitlines()[0] if str(error) else ""
    reason = type(error).__name__ if not first_line or "weights_only" in str(error) else first_line
    return CheckpointError(
        f"{path} is damaged or not a checkpoint ({reason}).\nFix: copy or download it again"
    )


def _with_model(path: str, content: object) -> dict[str, Any]:
    """Returns a file's content with its weights, as tensors by name, under "model"."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not weights")
    content = dict(content)
    key = next((k for k in _MODEL_KEYS if isinstance(content.get(k), Mapping)), None)
    if key is not None:
        state = content.pop(key)
    elif content and all(isinstance(value, Tensor | np.ndarray) for value in content.values()):
        state, content = content, {}
    else:
        found = ", ".join(str(key) for key in list(content)[:8]) or "nothing"
        raise CheckpointError(f"{path} holds no weights under 'model'; it has: {found}")
    tensors = {str(key): _tensor(value) for key, value in state.items()}
    return {**content, "model": {k: value for k, value in tensors.items() if value is not None}}


def _tensor(value: object) -> Tensor | None:
    """Returns a tensor, or None of what is none, such as a module's own extra state."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(np.ascontiguousarray(value, value.dtype.newbyteorder("=")))
    return None
