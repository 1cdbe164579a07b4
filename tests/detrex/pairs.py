"""Small detectors of each family, detrex's and ours, with the same weights."""

import importlib
from collections.abc import Callable

import torch
from detectron2.structures import Boxes, Instances
from omegaconf import DictConfig
from torch import nn

from benchmarks.opponents.detrex import built, own_config
from projects.clockdistill.configs.models.detrex import tied, with_resnet
from projects.clockdistill.configs.models.distill import distill
from projects.clockdistill.modeling.adapters import (
    DetrexDABDETRAdapter,
    DetrexDeformableDETRAdapter,
    DetrexDINOAdapter,
)
from projects.clockdistill.modeling.detectors.dab_detr.detector import DABDETR
from tests.modeling.tiny_detectors import ADAPTERS

FAMILIES = ("dino", "dab_detr", "deformable_detr")
NUM_CLASSES = 3
DETREX_ADAPTERS = {
    "dino": DetrexDINOAdapter,
    "dab_detr": DetrexDABDETRAdapter,
    "deformable_detr": DetrexDeformableDETRAdapter,
}


def small(config: DictConfig) -> DictConfig:
    """Makes a config of either kind small; detrex's sine encodings fix the width of 256."""
    config.num_classes = NUM_CLASSES
    config.num_queries = 12
    config.select_box_nums_for_evaluation = 12
    for part in (config.transformer.encoder, config.transformer.decoder):
        part.num_layers = 2
        part.feedforward_dim = 32
        part.attn_dropout = part.ffn_dropout = 0.0
    if "dn_number" in config:
        config.dn_number = 5
        config.label_noise_ratio = 0.0  # the two draw replaced labels in another order, boxes alike
    return config


def detrex_config(family: str) -> DictConfig:
    return small(with_resnet(tied(own_config(family)), depth=18))


def our_config(family: str) -> DictConfig:
    module = importlib.import_module(f"projects.clockdistill.configs.models.{family}")
    config = small(getattr(module, family)(depth=18))
    config.criterion.weight_dict.loss_class = 1.0  # detrex's, also of Deformable-DETR
    return config


def distiller(make: Callable[[str], DictConfig], family: str) -> nn.Module:
    """Distillation between two detectors of a family, both detrex's or both ours."""
    adapters = DETREX_ADAPTERS if make is detrex_config else ADAPTERS
    return built(distill(make(family), make(family), adapters[family], num_points=9))


def same_weights(theirs: nn.Module, ours: nn.Module, seed: int = 0) -> None:
    """Gives both the same random weights, which no two seeds share."""
    randomise(theirs, seed)
    ours.load_state_dict(theirs.state_dict())


def attend_to_padding(detector: nn.Module) -> None:
    """Makes our DAB-DETR do the one thing that detrex's does otherwise; others stay as they are."""

    def unmasked(_module, args, kwargs):
        return args, {**kwargs, "key_padding_mask": None}

    if isinstance(detector, DABDETR):
        detector.transformer.decoder.register_forward_pre_hook(unmasked, with_kwargs=True)


def randomise(detector: nn.Module, seed: int) -> None:
    """Random weights: of gains around 1, of biases around 0, of matrices that keep the scale."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            else:
                parameter.copy_(0.1 * noise + name.endswith(".weight"))
        if hasattr(detector.transformer, "enc_output"):
            # A token without content scores low, as in a trained DINO: else detrex's chooses
            # proposals from the padding, which ours never does.
            detector.transformer.enc_output.bias.zero_()
            detector.transformer.enc_output_norm.bias.zero_()


def batch(sizes=((96, 160), (64, 128)), counts=(3, 2), seed: int = 0) -> list[dict]:
    """One image a size (height, width), with so many objects; the second one is padded."""
    generator = torch.Generator().manual_seed(seed)
    inputs = []
    for number, (count, (height, width)) in enumerate(zip(counts, sizes, strict=True)):
        instances = Instances((height, width))
        corners = torch.rand(count, 2, 2, generator=generator).sort(dim=1).values
        boxes = (corners * torch.tensor([width, height])).reshape(-1, 4)
        instances.gt_boxes = Boxes(boxes)
        instances.gt_classes = torch.randint(NUM_CLASSES, (count,), generator=generator)
        inputs.append(
            {
                "image": torch.randint(256, (3, height, width), generator=generator).byte(),
                "instances": instances,
                "height": height,
                "width": width,
                "image_id": number,
                "file_name": f"{number}.png",
            }
        )
    return inputs
