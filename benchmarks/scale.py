"""How large the measured work is: as the targets say, or tiny for tests."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Sizes of all pairs.

    Attributes:
        height: of an image, in pixels.
        width: of an image, in pixels.
        batch: images of a training step.
        objects: annotated objects per image.
        small_models: fewer queries, layers and hidden units than the papers' detectors.
        most_points: of each kind of distillation query, at most so many.
        mini_batch: images of a step of the mini configs.
        evaluated_images: images of the COCO evaluation.
        detections: per evaluated image.
        frames: PNG files that the training loader reads.
        frame_height: of such a file, in pixels.
        frame_width: of such a file, in pixels.
    """

    height: int
    width: int
    batch: int
    objects: int
    small_models: bool
    most_points: int
    mini_batch: int
    evaluated_images: int
    detections: int
    frames: int
    frame_height: int
    frame_width: int


# KITTI's 1242 x 375 with its long side at 1333; it has 5 to 6 annotated objects an image.
FULL = Scale(
    height=402,
    width=1333,
    batch=2,
    objects=6,
    small_models=False,
    most_points=900,
    mini_batch=4,
    evaluated_images=1500,
    detections=300,
    frames=32,
    frame_height=375,
    frame_width=1242,
)
QUICK = Scale(
    height=64,
    width=96,
    batch=2,
    objects=2,
    small_models=True,
    most_points=5,
    mini_batch=2,
    evaluated_images=6,
    detections=10,
    frames=8,
    frame_height=64,
    frame_width=96,
)
