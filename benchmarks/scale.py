"""Sizes of the measured work."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Sizes of all pairs; by default those of the targets.

    Attributes:
        height: of an image, in pixels. KITTI's 1242 x 375 becomes 1333 x 402.
        width: of an image, in pixels.
        batch: images of a training step.
        objects: annotated objects per image; KITTI has 5 to 6.
        queries: of a detector; None leaves the papers' numbers.
        small_models: fewer layers and hidden units than the papers' detectors.
        most_points: upper bound of the distillation queries of each kind.
        mini_batch: images of a step of the mini configs.
        evaluated_images: images of the COCO evaluation.
        detections: per evaluated image.
        frames: image files that the training loader reads.
    """

    height: int = 402
    width: int = 1333
    batch: int = 2
    objects: int = 6
    queries: int | None = None
    small_models: bool = False
    most_points: int = 900
    mini_batch: int = 4
    evaluated_images: int = 1500
    detections: int = 300
    frames: int = 32


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
