"""Config of a small student's backbone with a classifier of crops, for pretraining."""

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from projects.clockdistill.configs.models import parts  # lazy configs import no module relatively
from projects.clockdistill.modeling.crop_classifier import CropClassifier


def crop_classifier(backbone: DictConfig, num_classes: int = 7) -> DictConfig:
    """Returns a classifier of 64 x 64 crops: two around each object, up to four elsewhere.

    Args:
        backbone: a config of `parts.basic_resnet`.
        num_classes: classes of objects.
    """
    return L(CropClassifier)(
        backbone=backbone,
        channels=backbone.stages.channels[-1],
        num_classes=num_classes,
        crop_size=64,
        crops_per_object=2,
        background_crops=4,
        **parts.PIXELS,
    )
