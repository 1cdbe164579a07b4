"""The measured detectors, with random weights, and what they do: training steps and inference."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.layers import FrozenBatchNorm2d
from detectron2.structures import Boxes, Instances
from omegaconf import DictConfig
from torch import nn

from benchmarks.pair import Scale, Work
from projects.clockdistill.configs.common.optim import optimizer
from projects.clockdistill.configs.models.dab_detr import dab_detr
from projects.clockdistill.configs.models.deformable_detr import deformable_detr
from projects.clockdistill.configs.models.dino import dino
from projects.clockdistill.engine.solver import build_optimizer
from projects.clockdistill.engine.trainer import Trainer

FAMILIES = {"dino": dino, "deformable_detr": deformable_detr, "dab_detr": dab_detr}

Config = Callable[[Scale], DictConfig]


def detector_config(family: str, depth: int, scale: Scale) -> DictConfig:
    """Returns the config of one of our detectors, with a ResNet of the given depth."""
    return scaled(FAMILIES[family](depth), scale)


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
    """Returns one of our models with random weights; equal configs give equal weights.

    An untrained model's numbers are made to differ from each other and to be of normal size.
    Initial heads are all equal and initial sampling offsets ignore the query, so a wrong result
    could pass for a right one. Features of a ResNet without trained normalization would grow from
    block to block.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = instantiate(config)
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "backbone." not in name:
                parameter.add_(0.02 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.weight.mul_(0.6)
    return model


def drawn_batch(scale: Scale, images: int) -> list[dict[str, Any]]:
    """Returns a batch of noise, as a training mapper makes it; equal arguments give equal batches.

    Objects have one of seven classes, KITTI's number, which every measured detector has.
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
        instances.gt_classes = torch.randint(7, (scale.objects,), generator=generator)
        image = torch.randint(256, (3, height, width), generator=generator).byte()
        entry = {"image": image, "instances": instances, "height": height, "width": width}
        batch.append({**entry, "image_id": number, "file_name": f"drawn image {number}"})
    return batch


def inference(config: Config, scale: Scale, images: int = 1) -> Work:
    """Returns the inference of one of our detectors: images to detections, without gradients."""
    return inference_of(build(config(scale)), drawn_batch(scale, images))


def inference_of(detector: nn.Module, batched_inputs: list[dict[str, Any]]) -> Work:
    """Returns the inference of a detector."""
    detector.eval()
    return torch.inference_mode()(lambda: detector(batched_inputs))


def training_step(config: Config, scale: Scale) -> Work:
    """Returns the training step of one of our models."""
    return build_trainer(build(config(scale)), drawn_batch(scale, scale.batch)).run_step


def build_trainer(
    model: nn.Module, batched_inputs: list[dict[str, Any]], amp_dtype: str | None = None
) -> Trainer:
    """Returns the project's trainer, ready for `run_step` on the same batch each time.

    A step is forward, losses, backward, clipping and the optimizer's update.
    """
    trainer = Trainer(
        model,
        lambda start_iter: itertools.repeat(batched_inputs),
        build_optimizer(optimizer, model),
        amp_dtype=amp_dtype,
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
