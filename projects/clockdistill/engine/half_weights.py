"""Weights of frozen detectors in half precision."""

import torch
from torch import nn

from projects.clockdistill.modeling.detectors.layers.float32_linear import Float32Linear


@torch.no_grad()
def store_weights(detector: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Converts the weights of products and convolutions once, as autocast does at every use.

    For a detector that is not trained and that runs under autocast of that dtype. The numbers stay
    the same: autocast would convert the same weights, for each call again, since it keeps only
    converted weights that are trained. All other parameters stay in float32.

    Args:
        detector: changed in place.
        dtype: bfloat16 or float16.

    Returns:
        The detector.
    """
    for module in detector.modules():
        if isinstance(module, Float32Linear):
            continue
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.MultiheadAttention)):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
    return detector
