"""Distillation losses: each takes plain tensors, so that none needs a detector."""

from projects.clockdistill.modeling.losses.logits import LogitDistillLoss
from projects.clockdistill.modeling.losses.memory import MemoryDistillLoss

__all__ = ["LogitDistillLoss", "MemoryDistillLoss"]
