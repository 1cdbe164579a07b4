"""The detectors that are measured, with random weights, and the images that they are given."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.layers import FrozenBatchNorm2d
from detectron2.structures import Boxes, Instances
from omegaconf import DictConfig
from torch import nn

from benchmarks.scale import Scale
from projects.clockdistill.configs.common.optim import optimizer
from projects.clockdistill.configs.models.dab_detr import dab_detr
from projects.clockdistill.configs.models.deformable_detr import deformable_detr
from projects.clockdistill.configs.models.dino import dino
from projects.clockdistill.engine.solver import build_optimizer
from projects.clockdistill.engine.trainer import Trainer

CONFIGS = {"dino": dino, "deformable_detr": deformable_detr, "dab_detr": dab_detr}
TITLES = {"dino": "DINO", "deformable_detr": "Deformable-DETR", "dab_detr": "DAB-DETR"}


def detector_config(family: str, depth: int, scale: Scale) -> DictConfig:
    """Returns the config of one of our detectors.

    Args:
        family: a key of `CONFIGS`.
        depth: of the ResNet.
        scale: sizes.
    """
    return scaled(CONFIGS[family](depth), scale)


def scaled(config: DictConfig, scale: Scale) -> DictConfig:
    """Changes a detector's config, ours or detrex's, to the sizes of a scale.

    The width stays, because detrex's position encodings fix it. Dropout and label noise go: the two
    sides of a pair need the same random numbers, and detrex draws them in another order.
    """
    layers = (config.transformer.encoder, config.transformer.decoder)
    for part in layers:
        part.attn_dropout = part.ffn_dropout = 0.0
    if "dn_number" in config:
        config.label_noise_ratio = 0.0
    if scale.queries is not None:
        config.num_queries = scale.queries
    if scale.small_models:
        config.select_box_nums_for_evaluation = config.num_queries
        for part in layers:
            part.num_layers = 2
            part.feedforward_dim = 32
        if "dn_number" in config:
            config.dn_number = 4
    return config


def build(config: DictConfig) -> nn.Module:
    """Returns one of our models with random weights."""
    model = instantiate(config)
    randomize(model)
    return model


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    """Makes an untrained model's numbers differ from each other and be of normal size.

    Initial heads are all equal and initial sampling offsets ignore the query, so a wrong result
    could pass for a right one. Features of a ResNet without trained normalization would grow from
    block to block.
    """
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "backbone." not in name:
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.weight.mul_(0.6)


def count_parameters(model: nn.Module) -> int:
    """Returns the number of trained and frozen parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def drawn_batch(scale: Scale, images: int, num_classes: int) -> list[dict[str, Any]]:
    """Returns a batch of noise, as a training mapper makes it; equal arguments give equal batches.

    Args:
        scale: size of the images, and objects in each.
        images: their number.
        num_classes: of the objects.
    """
    generator = torch.Generator().manual_seed(0)
    height, width = scale.height, scale.width
    batch = []
    for number in range(images):
        # (x, y) twice; a box is at least a hundredth of the image wide and high
        first, second = torch.rand(2, scale.objects, 2, generator=generator).sort(dim=0).values
        corners = torch.cat([first * 0.99, second * 0.99 + 0.01], dim=1)
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(corners * torch.tensor([width, height, width, height]))
        instances.gt_classes = torch.randint(num_classes, (scale.objects,), generator=generator)
        image = torch.randint(256, (3, height, width), generator=generator).byte()
        entry = {"image": image, "instances": instances, "height": height, "width": width}
        batch.append({**entry, "image_id": number, "file_name": f"drawn image {number}"})
    return batch


def inference(detector: nn.Module, batched_inputs: list[dict[str, Any]]) -> Callable[[], Any]:
    """Returns the call to time: images to detections, without gradients."""
    detector.eval()
    return torch.inference_mode()(lambda: detector(batched_inputs))


def build_trainer(model: nn.Module, batched_inputs: list[dict[str, Any]]) -> Trainer:
    """Returns the project's trainer, ready for `run_step` on the same batch each time.

    A step is forward, losses, backward, clipping and the optimizer's update.
    """
    trainer = Trainer(
        model,
        lambda start_iter: itertools.repeat(batched_inputs),
        build_optimizer(optimizer, model),
        max_norm=0.1,
    )
    trainer.train(0, 0)  # sets up what is done once in a training: mode, storage, loader
    return trainer


def losses(model: nn.Module, batched_inputs: list[dict[str, Any]]) -> dict[str, float]:
    """Returns the losses of a model in train mode, with the same random numbers in every call."""
    torch.manual_seed(0)
    with torch.no_grad():
        values = model.train()(batched_inputs)
    return {name: loss.item() for name, loss in values.items()}
