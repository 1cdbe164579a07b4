"""Weights from a file or an address, read without running code from the file."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import safetensors.torch
import torch
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch import Tensor
from torchvision.models import ResNet18_Weights, ResNet50_Weights, ResNet101_Weights

from projects.clockdistill.engine.config_file import ROOT
from projects.clockdistill.errors import UserError

BACKBONE = "backbone."
_TORCHVISION = "torchvision://"
# the first version of the weights, from which the DETR family's published results start
_IMAGENET = {
    "resnet18": ResNet18_Weights.IMAGENET1K_V1,
    "resnet50": ResNet50_Weights.IMAGENET1K_V1,
    "resnet101": ResNet101_Weights.IMAGENET1K_V1,
}
# torchvision's names -> those of detectron2's ResNet
_NAMES = (
    (r"^conv1\.", "stem.conv1."),
    (r"^bn1\.", "stem.conv1.norm."),
    (r"^layer(\d)\.(\d+)\.conv(\d)\.", lambda m: f"res{int(m[1]) + 1}.{m[2]}.conv{m[3]}."),
    (r"^layer(\d)\.(\d+)\.bn(\d)\.", lambda m: f"res{int(m[1]) + 1}.{m[2]}.conv{m[3]}.norm."),
    (r"^layer(\d)\.(\d+)\.downsample\.0\.", lambda m: f"res{int(m[1]) + 1}.{m[2]}.shortcut."),
    (r"^layer(\d)\.(\d+)\.downsample\.1\.", lambda m: f"res{int(m[1]) + 1}.{m[2]}.shortcut.norm."),
)


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


def read(path: str, *, allow_pickle: bool = False) -> dict[str, Any]:
    """Reads a whole checkpoint.

    Args:
        path: a local .safetensors file, or one that `torch.save` wrote.
        allow_pickle: whether code from the file may run if the file requires it.

    Returns:
        The content of the file, with the weights under "model"; torchvision's ResNet is renamed to
        the backbone of our detectors.

    Raises:
        CheckpointError: if the file is damaged, holds no weights or needs pickled code.
    """
    if path.endswith(".safetensors"):
        try:
            return {"model": safetensors.torch.load_file(path)}
        except safetensors.SafetensorError as error:
            raise _damaged(path, error) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except pickle.UnpicklingError as error:
        if re.search(r"Unsupported (global|class)|GLOBAL", str(error)):
            raise needs_pickle(path) from error
        raise _damaged(path, error) from error
    except (RuntimeError, OSError, EOFError, KeyError, IndexError) as error:
        raise _damaged(path, error) from error
    content = _with_model(path, content)
    if {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"} <= content["model"].keys():
        content["model"] = _as_backbone(content["model"])
    return content


def needs_pickle(path: str) -> CheckpointError:
    """Returns the error for a file whose loading could run any code."""
    return CheckpointError(
        f"{path} holds pickled objects besides tensors; loading it would run code from that file.\n"
        "Fix: if you trust its source, set train.allow_pickle=True"
    )


def _damaged(path: str, error: Exception) -> CheckpointError:
    first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return CheckpointError(f"{path} is damaged or not a checkpoint ({first_line})")


def _with_model(path: str, content: object) -> dict[str, Any]:
    """Returns a file's content with its weights under "model"."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not weights")
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


def _as_backbone(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames torchvision's ResNet; its classifier, which a backbone lacks, is dropped."""
    renamed = {}
    for key, value in state.items():
        if key.startswith("fc."):
            continue
        for pattern, replacement in _NAMES:
            new, count = re.subn(pattern, replacement, key)
            if count:
                renamed[BACKBONE + new] = value
                break
        else:
            raise CheckpointError(f"{key} is not a name of a torchvision ResNet")
    return renamed
