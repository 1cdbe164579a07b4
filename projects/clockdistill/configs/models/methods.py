"""Other methods' losses on the neck's features, for `model.feature_losses`."""

from typing import Any

from detectron2.config import LazyCall as L
from omegaconf import DictConfig
from torch import nn

from projects.clockdistill.modeling.losses import FGDLoss, FitNetLoss, MGDLoss


def feature_loss(loss: type[nn.Module], **options: Any) -> DictConfig:
    """Returns the config of a loss whose widths and levels follow teacher and student.

    Args:
        loss: takes `student_dim`, `teacher_dim` and `num_levels`.
        options: its other arguments.

    DAB-DETR has one level and no such key: set `model.feature_losses.<name>.num_levels = 1`.
    """
    return L(loss)(  # at model.feature_losses.<name>: three dots up is the model
        student_dim="${...student.embed_dim}",
        teacher_dim="${...teacher.embed_dim}",
        num_levels="${...student.transformer.num_feature_levels}",
        **options,
    )


def fitnet(weight: float = 1.0) -> DictConfig:
    """Returns FitNet: CLoCKDistill, eq. (1), and Table 1's "Backbone Features".

    Args:
        weight: of the loss; the paper names none.
    """
    return feature_loss(FitNetLoss, weight=weight)


def fgd(scale: float = 1.0) -> DictConfig:
    """Returns FGD with its weights for DETR-type detectors.

    Args:
        scale: of all four weights together, which keeps their proportions.
    """
    return feature_loss(
        FGDLoss,
        foreground_weight=1e-3 * scale,
        background_weight=5e-4 * scale,
        attention_weight=5e-4 * scale,
        global_weight=5e-6 * scale,
        temperature=0.5,
    )


def mgd(weight: float = 2e-5) -> DictConfig:
    """Returns MGD with its weights for one-stage detectors; it gives none for DETRs.

    Args:
        weight: alpha.
    """
    return feature_loss(MGDLoss, weight=weight, mask_ratio=0.65)
