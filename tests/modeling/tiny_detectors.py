"""Detectors of every family, small enough for tests of distillation, and batches for them."""

from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from omegaconf import DictConfig
from torch import nn

from projects.clockdistill.configs.models.dab_detr import mini_dab_detr
from projects.clockdistill.configs.models.deformable_detr import mini_deformable_detr
from projects.clockdistill.configs.models.dino import mini_dino
from projects.clockdistill.modeling.adapters import (
    DABDETRAdapter,
    DeformableDETRAdapter,
    DINOAdapter,
)
from projects.clockdistill.modeling.detectors.predictions import Predictions

NUM_CLASSES = 3
QUERIES = 7
CONFIGS = {
    "dino": mini_dino,
    "dab_detr": mini_dab_detr,
    "deformable_detr": mini_deformable_detr,
}
ADAPTERS = {
    "dino": DINOAdapter,
    "dab_detr": DABDETRAdapter,
    "deformable_detr": DeformableDETRAdapter,
}
FAMILIES = tuple(CONFIGS)
# Deformable-DETR with box refinement, and then with two stages.
VARIANTS = ("deformable_detr_refine", "deformable_detr_two_stage")


def tiny_config(
    name: str, num_classes: int = NUM_CLASSES, embed_dim: int = 16, num_layers: int = 2
) -> DictConfig:
    """Returns the config of a family or variant; `num_layers` is the decoder's."""
    family = "deformable_detr" if name in VARIANTS else name
    config = CONFIGS[family](num_classes, stem_channels=8, channels=(8, 12, 16, 20))
    config.embed_dim = embed_dim
    config.position_embedding.num_pos_feats = embed_dim // 2
    config.num_queries = QUERIES
    for part in (config.transformer.encoder, config.transformer.decoder):
        part.num_heads = 2
        part.feedforward_dim = 16
    config.transformer.decoder.num_layers = num_layers
    if family == "dino":
        config.dn_number = 4
    if name in VARIANTS:
        config.with_box_refine = True
        config.as_two_stage = name == "deformable_detr_two_stage"
    return config


def untrained_detector(name: str, seed: int = 0, **sizes: Any) -> nn.Module:
    """Returns a detector of `tiny_config` as training starts."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return instantiate(tiny_config(name, **sizes))


def tiny_detector(name: str, seed: int = 0, **sizes: Any) -> nn.Module:
    """Returns a detector of `tiny_config` with random weights that no two seeds share."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        detector = instantiate(tiny_config(name, **sizes))
        with torch.no_grad():  # heads start with equal boxes and classes: make them differ
            for parameter in detector.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return detector


def tiny_dino(seed: int = 0, **sizes: Any) -> nn.Module:
    """Returns `tiny_detector` of the family that most tests use."""
    return tiny_detector("dino", seed, **sizes)


def batch(counts=(2, 1), sizes=((64, 96), (48, 80)), seed: int = 0) -> list[dict]:
    """Returns an image for each count, with so many objects, of the given (height, width)."""
    generator = torch.Generator().manual_seed(seed)
    inputs = []
    for number, (count, (height, width)) in enumerate(zip(counts, sizes, strict=True)):
        instances = Instances((height, width))
        corners = torch.rand(count, 2, 2, generator=generator).sort(dim=1).values
        boxes = corners * torch.tensor([width, height]) + torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        instances.gt_boxes = Boxes(boxes.clamp(max=min(height, width)).reshape(-1, 4))
        instances.gt_classes = torch.randint(NUM_CLASSES, (count,), generator=generator)
        inputs.append(
            {
                "image": torch.randint(256, (3, height, width), generator=generator).byte(),
                "instances": instances,
                "height": height,
                "width": width,
                "image_id": number,
                "file_name": f"{number}.png",
            }
        )
    return inputs


def random_targets(*counts: int) -> list[dict]:
    """Returns targets of so many objects for each image, none of them near the border."""
    return [
        {"labels": torch.randint(NUM_CLASSES, (n,)), "boxes": torch.rand(n, 4) * 0.3 + 0.35}
        for n in counts
    ]


def random_predictions(layers: int, images: int, queries: int) -> Predictions:
    """Returns predictions whose boxes are not near the border."""
    boxes = torch.rand(layers, images, queries, 4) * 0.4 + 0.3
    return Predictions(torch.randn(layers, images, queries, NUM_CLASSES), boxes)


def assert_same_gradients(
    got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], relative: float = 1e-5
) -> None:
    """Holds gradients equal up to `relative` of each norm.

    1e-5 is what sums in another order reach in float32. 1e-6 is rounding where a gradient is
    0 in exact arithmetic (largest norms here: 1 to 30).
    """
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (got[name] - gradient).norm() <= relative * gradient.norm() + 1e-6, name
