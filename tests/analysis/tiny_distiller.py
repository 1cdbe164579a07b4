"""A small distillation model of any family, with random weights everywhere."""

import torch
from detectron2.config import instantiate
from torch import nn

from projects.clockdistill.configs.models.distill import distill
from projects.clockdistill.configs.models.methods import fgd, fitnet, mgd
from tests.modeling.tiny_detectors import ADAPTERS, tiny_config

METHODS = {"fitnet": fitnet, "fgd": fgd, "mgd": mgd}


def tiny_distiller(family: str = "dino", features: tuple[str, ...] = ()) -> nn.Module:
    """Returns CLoCKDistill with the paper's weights, and the feature losses of these names."""
    config = distill(tiny_config(family), tiny_config(family), ADAPTERS[family], num_points=5)
    for name in features:
        config.feature_losses[name] = METHODS[name]()
        if family == "dab_detr":
            config.feature_losses[name].num_levels = 1
    model = instantiate(config)
    with torch.no_grad():  # heads start with zeros, which let no gradient through
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.train()
