"""Shared by the studies at the paper's width on a CPU."""

from .mini import dataloader, lr_multiplier, optimizer, train

optimizer.lr = 5e-4
