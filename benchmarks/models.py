"""The detectors that are measured: ours, with random weights."""

from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.layers import FrozenBatchNorm2d
from omegaconf import DictConfig
from torch import nn

from benchmarks.scale import Scale
from projects.clockdistill.configs.models.dab_detr import dab_detr
from projects.clockdistill.configs.models.deformable_detr import deformable_detr
from projects.clockdistill.configs.models.dino import dino

TREES: dict[str, Callable[[int], DictConfig]] = {
    "dino": dino,
    "deformable_detr": deformable_detr,
    "dab_detr": dab_detr,
}
TITLES = {"dino": "DINO", "deformable_detr": "Deformable-DETR", "dab_detr": "DAB-DETR"}


def tree(family: str, depth: int, scale: Scale) -> DictConfig:
    """The tree of one of our detectors.

    Args:
        family: a key of `TREES`.
        depth: of the ResNet.
        scale: how large.
    """
    return scaled(TREES[family](depth), scale)


def scaled(tree: DictConfig, scale: Scale) -> DictConfig:
    """Makes a detector's tree small where the scale wants it, ours or detrex's.

    Widths stay: detrex's encodings fix them. No label noise, which detrex draws in another order;
    a pair whose losses are compared needs the same draws.
    """
    if "dn_number" in tree:
        tree.label_noise_ratio = 0.0
    for part in (tree.transformer.encoder, tree.transformer.decoder):
        part.attn_dropout = part.ffn_dropout = 0.0
    if scale.small_models:
        tree.num_queries = tree.select_box_nums_for_evaluation = 12
        for part in (tree.transformer.encoder, tree.transformer.decoder):
            part.num_layers = 2
            part.feedforward_dim = 32
        if "dn_number" in tree:
            tree.dn_number = 4
    return tree


def built(tree: DictConfig) -> nn.Module:
    """Our detector with random weights."""
    detector = instantiate(tree)
    stir(detector)
    return detector


@torch.no_grad()
def stir(detector: nn.Module) -> None:
    """Lets an untrained detector's numbers be of normal size and different from each other.

    Heads start out equal and offsets without a look at the query: a wrong result could pass for a
    right one. In a backbone without trained normalisation the features grow from block to block.
    """
    generator = torch.Generator().manual_seed(0)
    for name, parameter in detector.named_parameters():
        if parameter.dim() > 1 and not name.startswith("backbone."):
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    for module in detector.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.weight.mul_(0.6)


def count_parameters(model: nn.Module) -> int:
    """All numbers that are learnt or frozen."""
    return sum(parameter.numel() for parameter in model.parameters())


def inference(detector: nn.Module, batched_inputs: list[dict[str, Any]]) -> Callable[[], Any]:
    """What to time: images to detections, without gradients."""
    detector.eval()

    def run() -> Any:
        with torch.inference_mode():
            return detector(batched_inputs)

    return run


def losses(model: nn.Module, batched_inputs: list[dict[str, Any]]) -> dict[str, float]:
    """Losses of a model in train mode, from the same draws whenever it is called."""
    torch.manual_seed(0)
    with torch.no_grad():
        values = model.train()(batched_inputs)
    return {name: loss.item() for name, loss in values.items()}
