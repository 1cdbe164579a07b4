"""Shared by the small experiments, which a CPU trains in minutes."""

from .optim import optimizer
from .schedule import mini as lr_multiplier
from .synthkitti import dataloader
from .train import train

optimizer.lr = 1.5e-3
optimizer.params.lr_factors.backbone = 1.0
train.clip_grad.params.max_norm = 1.0
train.device = "cpu"
