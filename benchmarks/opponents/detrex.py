"""Real detrex's detectors on a CPU, with our weights."""

import importlib
from collections.abc import Callable
from typing import Any

from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from benchmarks.models import build, detector_config, scaled
from benchmarks.pair import Scale
from projects.clockdistill.configs.models.detrex import tied, with_resnet
from projects.clockdistill.modeling.adapters import DetrexDINOAdapter


def detector(family: str, depth: int, scale: Scale) -> nn.Module:
    """Returns detrex's detector of its own lazy config, with the weights of our own.

    Args:
        family: "dino", "deformable_detr" or "dab_detr".
        depth: of the ResNet.
        scale: sizes.
    """
    model = built(scaled(with_resnet(tied(own_config(family)), depth), scale))
    model.load_state_dict(build(detector_config(family, depth, scale)).state_dict())
    return model


def own_config(family: str) -> DictConfig:
    """Returns the model of detrex's own config file."""
    return importlib.import_module(f"projects.{family}.configs.models.{family}_r50").model


def built(config: DictConfig) -> nn.Module:
    """Returns a model whose config takes the device from `train.device`, as our configs do."""
    return instantiate(OmegaConf.create({"model": config, "train": {"device": "cpu"}}).model)


def deformable_attention(embed_dim: int, num_heads: int, num_levels: int) -> nn.Module:
    """Returns detrex's module, which calls `sampling` on a CPU."""
    layers = importlib.import_module("detrex.layers")
    return layers.MultiScaleDeformableAttention(
        embed_dim, num_heads, num_levels, dropout=0.0, batch_first=True
    )


def sampling() -> Callable[..., Tensor]:
    """Returns the sampling within detrex's module on a CPU, which uses `grid_sample`."""
    module = importlib.import_module("detrex.layers.multi_scale_deform_attn")
    return module.multi_scale_deformable_attn_pytorch


class TrainedOnCPU(nn.Module):
    """detrex's DINO for training, whose moves to CUDA go to the CPU, as in our distillation.

    The redirection costs 6 microseconds for each torch function in the forward pass: some
    hundredths of a second in a step of many seconds.
    """

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        return DetrexDINOAdapter().run(self.detector, batched_inputs, targets=None)
