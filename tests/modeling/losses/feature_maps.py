"""Random features of two levels, with padding, and targets, for the tests of feature losses."""

from collections.abc import Sequence

import torch
from torch import Tensor

LEVELS = ((4, 6), (2, 3))  # (H, W)
VALID = (((4, 6), (2, 3)), ((3, 4), (2, 2)))  # per image what is not padding: none, some
TARGETS = [
    {
        "labels": torch.tensor([1, 0]),
        "boxes": torch.tensor([[0.3, 0.4, 0.3, 0.5], [0.4, 0.5, 0.1, 0.1]]),
    },
    {"labels": torch.tensor([2]), "boxes": torch.tensor([[0.6, 0.6, 0.5, 0.4]])},
]
EMPTY = {"labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)}

Features = tuple[list[Tensor], list[Tensor], list[Tensor]]


def random_features(
    student_dim: int = 4,
    teacher_dim: int = 4,
    levels: Sequence[tuple[int, int]] = LEVELS,
    valid: Sequence[Sequence[tuple[int, int]]] = VALID,
    seed: int = 0,
) -> Features:
    """Student features, teacher features and padding masks, each per level."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher, masks = [], [], []
    for level, (height, width) in enumerate(levels):
        size = (len(valid), student_dim + teacher_dim, height, width)
        both = torch.randn(size, generator=generator)
        student.append(both[:, :student_dim].contiguous())
        teacher.append(both[:, student_dim:].contiguous())
        mask = torch.ones(len(valid), height, width, dtype=torch.bool)
        for image, sizes in enumerate(valid):
            mask[image, : sizes[level][0], : sizes[level][1]] = False
        masks.append(mask)
    return student, teacher, masks


def image_of(features: Features, image: int) -> Features:
    """The features of one image alone, without its padding."""
    student, teacher, masks = (
        [
            x[image : image + 1, ..., :height, :width]
            for x, (height, width) in zip(part, VALID[image], strict=True)
        ]
        for part in features
    )
    return student, teacher, masks
