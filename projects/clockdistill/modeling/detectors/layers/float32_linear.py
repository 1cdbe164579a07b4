"""A linear layer that mixed precision leaves alone."""

import torch
from torch import Tensor, nn


class Float32Linear(nn.Linear):
    """`nn.Linear` in float32, for positions, which bfloat16 would move by pixels."""

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
            return super().forward(x)
        with torch.autocast(device, enabled=False):
            return super().forward(x.float())
