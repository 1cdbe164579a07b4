"""Distillation losses: each takes plain tensors, so that none needs a detector."""

from projects.clockdistill.modeling.losses.feature import FeatureLosses
from projects.clockdistill.modeling.losses.fgd import FGDLoss
from projects.clockdistill.modeling.losses.fitnet import FitNetLoss
from projects.clockdistill.modeling.losses.logits import LogitDistillLoss
from projects.clockdistill.modeling.losses.memory import MemoryDistillLoss
from projects.clockdistill.modeling.losses.mgd import MGDLoss

__all__ = [
    "FGDLoss",
    "FeatureLosses",
    "FitNetLoss",
    "LogitDistillLoss",
    "MGDLoss",
    "MemoryDistillLoss",
]
