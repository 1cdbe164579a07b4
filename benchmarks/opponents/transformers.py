"""Hugging Face transformers' detectors with a ResNet-50, built from their configs."""

import importlib
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.exported import module_inference
from benchmarks.pair import Scale, Work

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def detector(family: str, scale: Scale) -> nn.Module:
    """Returns a detector in eval mode; nothing is downloaded.

    Its defaults are the papers', as ours: no two-stage, no refinement, 300 queries, six layers.

    Args:
        family: "deformable_detr" or "dab_detr".
        scale: sizes.
    """
    library = importlib.import_module("transformers")
    name, stages, hidden = {
        "deformable_detr": ("DeformableDetr", ["stage2", "stage3", "stage4"], 1024),
        "dab_detr": ("DabDetr", ["stage4"], 2048),
    }[family]
    sizes = {}
    if scale.small_models:
        hidden = 32
        sizes = dict(num_queries=scale.queries, encoder_layers=2, decoder_layers=2)
    config = getattr(library, f"{name}Config")(
        backbone_config=library.ResNetConfig(out_features=stages),
        num_labels=80,
        auxiliary_loss=False,
        encoder_ffn_dim=hidden,
        decoder_ffn_dim=hidden,
        **sizes,
    )
    return getattr(library, f"{name}ForObjectDetection")(config).eval()


class Predictions(nn.Module):
    """Predicts from an image, (3, H, W) in [0, 255]; normalizing it is part of the work."""

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.model = model
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None])
        self.register_buffer("mask", torch.ones(1, *image.shape[1:], dtype=torch.long))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(((image - self.mean) / self.std)[None], pixel_mask=self.mask)
        return output.logits, output.pred_boxes


def inference(model: nn.Module, image: Tensor) -> Work:
    """Returns the inference of a detector on one image, (3, H, W) in [0, 255]."""
    return torch.inference_mode()(partial(Predictions(model, image), image))


def exported_inference(model: nn.Module, image: Tensor, runtime: str) -> Work:
    """Returns the same by a runtime, a key of `exported.RUNTIMES` without int8."""
    return module_inference(Predictions(model, image).eval(), runtime, image.float())
