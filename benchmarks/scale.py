"""Sizes of the measured work."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Sizes of all pairs; by default those of the targets."""

    height: int = 402  # of an image, in pixels: KITTI's 1242 x 375 becomes 1333 x 402
    width: int = 1333
    batch: int = 2  # images of a training step
    objects: int = 6  # annotated, per image; KITTI has 5 to 6
    queries: int | None = None  # of a detector; None leaves the papers' numbers
    small_models: bool = False  # fewer layers and hidden units than the papers' detectors
    most_points: int = 900  # upper bound of the distillation queries of each kind
    mini_batch: int = 4  # images of a step of the mini configs
    evaluated_images: int = 1500  # of the COCO evaluation
    detections: int = 300  # per evaluated image
    frames: int = 32  # image files that the training loader reads


FULL = Scale()
QUICK = Scale(
    height=64,
    width=96,
    objects=2,
    queries=12,
    small_models=True,
    most_points=5,
    mini_batch=2,
    evaluated_images=6,
    detections=10,
    frames=8,
)
