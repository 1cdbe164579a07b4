"""Inference and training of whole detectors, compared with detrex and Hugging Face transformers.

detrex's detectors have the same weights as ours. Those of transformers have other random weights,
so only the number of parameters and the shape of the output are compared; normalizing the image
counts on both sides, choosing detections on ours alone. A training step is made by our trainer.
"""

import importlib
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.agreement import same_detectors, same_figures
from benchmarks.measuring import seconds
from benchmarks.models import (
    TITLES,
    build,
    build_trainer,
    count_parameters,
    detector_config,
    drawn_batch,
    inference,
    losses,
)
from benchmarks.opponents import detrex
from benchmarks.pair import Disagreement, Pair, Sides, Target
from benchmarks.scale import Scale

# Measured 4e-5; a proposal of another rank would change single losses more.
LOSS_TOLERANCE = 5e-3


def _against_detrex(family: str, depth: int, scale: Scale) -> Sides:
    ours = build(detector_config(family, depth, scale))
    theirs = detrex.detector(family, depth, scale, weights_of=ours)
    image = drawn_batch(scale, 1, ours.num_classes)
    run_ours, run_theirs = inference(ours, image), inference(theirs, image)

    def check() -> dict[str, float]:
        return {"parameters": count_parameters(ours), **same_detectors(ours, theirs, image)}

    return Sides({"inference": seconds(run_ours)}, {"inference": seconds(run_theirs)}, check)


def _against_transformers(family: str, depth: int, scale: Scale) -> Sides:
    ours = build(detector_config(family, depth, scale))
    theirs = transformers_detector(family, scale)
    batch = drawn_batch(scale, 1, ours.num_classes)
    image = batch[0]["image"]
    mask = torch.ones(1, *image.shape[1:], dtype=torch.long)

    @torch.inference_mode()
    def run_theirs() -> Any:
        return theirs(((image - ours.pixel_mean) / ours.pixel_std)[None], pixel_mask=mask)

    def check() -> dict[str, int]:
        count, their_count = count_parameters(ours), count_parameters(theirs)
        if count != their_count:
            raise Disagreement(f"{count:,} parameters of ours, {their_count:,} of theirs")
        shape = tuple(run_theirs().logits.shape)
        if shape != (1, ours.num_queries, ours.num_classes):
            raise Disagreement(f"theirs predicts logits of shape {shape}")
        return {"parameters, ours": count, "parameters, theirs": their_count}

    run_ours = inference(ours, batch)
    return Sides({"inference": seconds(run_ours)}, {"inference": seconds(run_theirs)}, check)


def transformers_detector(family: str, scale: Scale) -> nn.Module:
    """Returns a detector with a ResNet-50, in eval mode, built from its config without a download.

    Its defaults are the papers', as ours: no two-stage, no refinement, 300 queries, six layers.
    """
    transformers = importlib.import_module("transformers")
    name, stages, hidden = {
        "deformable_detr": ("DeformableDetr", ["stage2", "stage3", "stage4"], 1024),
        "dab_detr": ("DabDetr", ["stage4"], 2048),
    }[family]
    sizes = {}
    if scale.small_models:
        hidden = 32
        sizes = dict(num_queries=scale.queries, encoder_layers=2, decoder_layers=2)
    config = getattr(transformers, f"{name}Config")(
        backbone_config=transformers.ResNetConfig(out_features=stages),
        num_labels=80,
        auxiliary_loss=False,
        encoder_ffn_dim=hidden,
        decoder_ffn_dim=hidden,
        **sizes,
    )
    return getattr(transformers, f"{name}ForObjectDetection")(config).eval()


def _training(scale: Scale) -> Sides:
    ours = build(detector_config("dino", 18, scale))
    theirs = detrex.OnOwnDevice(detrex.detector("dino", 18, scale, weights_of=ours))
    batch = drawn_batch(scale, scale.batch, ours.num_classes)

    def check() -> dict[str, float]:
        found = same_figures(losses(ours, batch), losses(theirs, batch), LOSS_TOLERANCE)
        return {"losses differ by": found}

    run_ours, run_theirs = (build_trainer(side, batch).run_step for side in (ours, theirs))
    return Sides({"step": seconds(run_ours)}, {"step": seconds(run_theirs)}, check)


def _inference_pair(against: str, family: str, depth: int, factor: float) -> Pair:
    reference, sides = {
        "detrex": ("detrex, same weights", _against_detrex),
        "transformers": ("Hugging Face transformers, same sizes", _against_transformers),
    }[against]
    return Pair(
        f"{family}_r{depth}_inference",
        f"{TITLES[family]} R{depth} inference, 402 x 1333, batch 1",
        against,
        reference,
        Target(factor, at_least=True),
        partial(sides, family, depth),
    )


PAIRS = (
    _inference_pair("detrex", "dino", 50, 2.2),
    _inference_pair("detrex", "dino", 18, 2.2),
    _inference_pair("detrex", "deformable_detr", 50, 2.2),
    _inference_pair("detrex", "dab_detr", 50, 1.15),
    Pair(
        "dino_r18_training",
        "training step DINO R18, batch 2, 402 x 1333",
        "detrex",
        "detrex's model and criterion in the same loop",
        Target(2, at_least=True),
        _training,
    ),
    _inference_pair("transformers", "deformable_detr", 50, 2.2),
    _inference_pair("transformers", "dab_detr", 50, 1.15),
)
