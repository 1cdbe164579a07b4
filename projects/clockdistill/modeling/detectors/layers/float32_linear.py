"""A linear layer that mixed precision leaves alone."""

import torch
from torch import Tensor, nn


class Float32Linear(nn.Linear):
    """`nn.Linear` in float32, for positions, which bfloat16 would move by pixels."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())
