"""The three variants of a tiny Deformable-DETR."""

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import Tensor

from projects.clockdistill.modeling.detectors.deformable_detr.detector import DeformableDETR
from tests.modeling.tiny_detectors import tiny_tree

VARIANTS = {"plain": (False, False), "refine": (True, False), "two_stage": (True, True)}
QUERIES = 7
PROPOSAL_LOSSES = {"loss_class_enc", "loss_bbox_enc", "loss_giou_enc"}


def variant_tree(variant: str) -> DictConfig:
    tree = tiny_tree("deformable_detr")
    tree.with_box_refine, tree.as_two_stage = VARIANTS[variant]
    return tree


def fresh(variant: str) -> DeformableDETR:
    """As training starts."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return instantiate(variant_tree(variant))


def shaken(variant: str) -> DeformableDETR:
    """As if trained a little: no two boxes and no two classes are alike."""
    detector = fresh(variant)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return detector


def decoder_calls(detector: DeformableDETR) -> list[tuple[dict, tuple[Tensor, Tensor]]]:
    """Grows by keyword arguments and output with every pass through the decoder."""
    calls = []
    detector.transformer.decoder.register_forward_hook(
        lambda _, __, kwargs, output: calls.append((kwargs, output)), with_kwargs=True
    )
    return calls
