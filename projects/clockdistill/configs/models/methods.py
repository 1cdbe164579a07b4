"""Other methods' losses as trees, to hang below `model.feature_losses` of a `distill(...)` tree."""

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from projects.clockdistill.modeling.losses import FGDLoss, FitNetLoss, MGDLoss

# At model.feature_losses.<name>: three dots up is the model.
SIZES = {
    "student_dim": "${...student.embed_dim}",
    "teacher_dim": "${...teacher.embed_dim}",
    "num_levels": "${...student.transformer.num_feature_levels}",
}


def fitnet(weight: float = 1.0) -> DictConfig:
    """FitNet on the neck's features: CLoCKDistill, eq. (1), and Table 1's "Backbone Features".

    Args:
        weight: of the loss; the paper names none.
    """
    return L(FitNetLoss)(**SIZES, weight=weight)


def fgd(scale: float = 1.0) -> DictConfig:
    """FGD with its weights for DETR-type detectors.

    Args:
        scale: of all four weights together, which keeps their proportions.
    """
    return L(FGDLoss)(
        **SIZES,
        foreground_weight=1e-3 * scale,
        background_weight=5e-4 * scale,
        attention_weight=5e-4 * scale,
        global_weight=5e-6 * scale,
        temperature=0.5,
    )


def mgd(weight: float = 2e-5) -> DictConfig:
    """MGD with its weights for one-stage detectors; it gives none for DETRs.

    Args:
        weight: alpha.
    """
    return L(MGDLoss)(**SIZES, weight=weight, mask_ratio=0.65)
