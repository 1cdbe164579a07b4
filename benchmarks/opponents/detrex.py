"""Real detrex's detectors on a CPU, with our weights."""

import importlib
from collections.abc import Callable
from typing import Any

from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from benchmarks.models import scaled
from benchmarks.scale import Scale
from projects.clockdistill.configs.models.detrex import HOW_TO_INSTALL, tied, with_resnet
from projects.clockdistill.modeling.adapters import DetrexDINOAdapter


def check_importable() -> None:
    """Imports detrex.

    Raises:
        ImportError: saying how to make it importable.
    """
    try:
        importlib.import_module("detrex.layers")
        importlib.import_module("projects.dino.modeling")
    except ImportError as error:
        raise ImportError(f"{error}; {HOW_TO_INSTALL}") from error


def detector(family: str, depth: int, scale: Scale, weights_of: nn.Module) -> nn.Module:
    """detrex's detector of its own lazy config.

    Args:
        family: "dino", "deformable_detr" or "dab_detr".
        depth: of the ResNet.
        scale: how large.
        weights_of: our detector of the same size, whose weights it gets.
    """
    model = built(scaled(with_resnet(tied(own_tree(family)), depth), scale))
    model.load_state_dict(weights_of.state_dict())
    return model


def own_tree(family: str) -> DictConfig:
    """The tree that detrex's own config module holds."""
    return importlib.import_module(f"projects.{family}.configs.models.{family}_r50").model


def built(tree: DictConfig) -> nn.Module:
    """A model whose tree looks for its device where a config of ours has it."""
    return instantiate(OmegaConf.create({"model": tree, "train": {"device": "cpu"}}).model)


def deformable_attention(embed_dim: int, num_heads: int, num_levels: int) -> nn.Module:
    """detrex's module, which takes its way for CPUs where no tensor is on a GPU."""
    layers = importlib.import_module("detrex.layers")
    return layers.MultiScaleDeformableAttention(
        embed_dim, num_heads, num_levels, dropout=0.0, batch_first=True
    )


def sampling() -> Callable[..., Tensor]:
    """The function that this module calls where no tensor is on a GPU."""
    module = importlib.import_module("detrex.layers.multi_scale_deform_attn")
    return module.multi_scale_deformable_attn_pytorch


class OnOwnDevice(nn.Module):
    """detrex's DINO, whose moves to CUDA in training go to its own device instead.

    By the adapter with which the project distils it. That costs 6 microseconds for each of torch's
    functions in the forward pass: some hundredths of a second in a step of many seconds.

    Args:
        detector: detrex's DINO.
    """

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector
        self.adapter = DetrexDINOAdapter()

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        with self.adapter.running(self.detector):
            return self.detector(batched_inputs)
