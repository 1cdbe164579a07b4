"""One adapter per detector family, of our own detectors and of real detrex's."""

from projects.clockdistill.modeling.adapters.dab_detr import DABDETRAdapter
from projects.clockdistill.modeling.adapters.deformable_detr import DeformableDETRAdapter
from projects.clockdistill.modeling.adapters.detrex import (
    DetrexDABDETRAdapter,
    DetrexDeformableDETRAdapter,
    DetrexDINOAdapter,
)
from projects.clockdistill.modeling.adapters.dino import DINOAdapter

__all__ = [
    "DABDETRAdapter",
    "DINOAdapter",
    "DeformableDETRAdapter",
    "DetrexDABDETRAdapter",
    "DetrexDINOAdapter",
    "DetrexDeformableDETRAdapter",
]
