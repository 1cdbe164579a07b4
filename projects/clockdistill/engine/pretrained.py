"""ImageNet weights of torchvision's ResNets under detectron2's names."""

import re
from pathlib import Path
from urllib.parse import urlparse

import torch
from detectron2.utils import comm
from torch import Tensor
from torchvision.models import ResNet18_Weights, ResNet50_Weights, ResNet101_Weights

SCHEME = "torchvision://"
# the original recipe's weights, from which the DETR family's results start
_WEIGHTS = {
    "resnet18": ResNet18_Weights.IMAGENET1K_V1,
    "resnet50": ResNet50_Weights.IMAGENET1K_V1,
    "resnet101": ResNet101_Weights.IMAGENET1K_V1,
}
_NAMES = (
    (r"^conv1\.", "stem.conv1."),
    (r"^bn1\.", "stem.conv1.norm."),
    (r"^layer(\d)\.(\d+)\.conv(\d)\.", lambda m: f"res{int(m[1]) + 1}.{m[2]}.conv{m[3]}."),
    (r"^layer(\d)\.(\d+)\.bn(\d)\.", lambda m: f"res{int(m[1]) + 1}.{m[2]}.conv{m[3]}.norm."),
    (r"^layer(\d)\.(\d+)\.downsample\.0\.", lambda m: f"res{int(m[1]) + 1}.{m[2]}.shortcut."),
    (r"^layer(\d)\.(\d+)\.downsample\.1\.", lambda m: f"res{int(m[1]) + 1}.{m[2]}.shortcut.norm."),
)


def fetch(address: str) -> str:
    """Return the local file of ``torchvision://resnet18|50|101``, downloading it if need be.

    Raises:
        ValueError: if the name is unknown.
        ConnectionError: if the file is neither there nor to be had, with what to do.
    """
    name = address.removeprefix(SCHEME)
    if name not in _WEIGHTS:
        known = ", ".join(SCHEME + key for key in _WEIGHTS)
        raise ValueError(f"train.init_checkpoint={address} is unknown; there are {known}")
    url = _WEIGHTS[name].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if comm.is_main_process() and not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        # torchvision puts the start of the file's hash into its name
        hash_prefix = path.stem.rpartition("-")[2]
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix, progress=False)
        except (OSError, RuntimeError) as error:  # no network; or another file than asked for
            failure = error
    comm.synchronize()
    if path.is_file():
        return str(path)
    reason = f" ({failure})" if comm.is_main_process() else ""
    raise ConnectionError(
        f"cannot download the ImageNet weights of {name}{reason}. Either download {url} by hand "
        f"to {path}, or name a file that is there with train.init_checkpoint=PATH, or start from "
        'scratch with train.init_checkpoint=""'
    )


def is_torchvision_resnet(state: dict[str, Tensor]) -> bool:
    """Tell whether a state dict has the names of torchvision's ResNet."""
    return {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"} <= state.keys()


def to_detectron2_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's ResNet weights to those of detectron2's ``ResNet``.

    The classifier is left out: a detector's backbone has none.
    """
    renamed = {}
    for key, value in state.items():
        if key.startswith("fc."):
            continue
        for pattern, replacement in _NAMES:
            new, count = re.subn(pattern, replacement, key)
            if count:
                renamed[new] = value
                break
        else:
            raise ValueError(f"{key} is no name of a torchvision ResNet")
    return renamed
