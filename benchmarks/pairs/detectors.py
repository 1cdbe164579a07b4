"""Inference and training compared with detrex, and inference with Hugging Face transformers.

detrex's detectors have the same weights as ours. Those of transformers have other random weights,
so only the number of parameters and the shape of the output are compared; normalizing the image
counts on both sides, choosing detections on ours alone.
"""

from functools import partial

from benchmarks.agreement import same_detectors, same_figures
from benchmarks.models import (
    build,
    build_trainer,
    detector_config,
    drawn_batch,
    inference,
    inference_of,
    losses,
    training_step,
)
from benchmarks.opponents import detrex, transformers
from benchmarks.pair import Disagreement, Pair, Scale, Work

# Measured 4e-5; a proposal of another rank would change single losses more.
LOSS_TOLERANCE = 5e-3


def detrex_inference(family: str, depth: int, scale: Scale) -> Work:
    return inference_of(detrex.detector(family, depth, scale), drawn_batch(scale, 1))


def same_inference(family: str, depth: int, scale: Scale) -> dict[str, float]:
    """Compares our detections with those of detrex."""
    ours = build(detector_config(family, depth, scale))
    theirs = detrex.detector(family, depth, scale)
    return same_detectors(ours, theirs, drawn_batch(scale, 1))


def detrex_training(scale: Scale) -> Work:
    theirs = detrex.TrainedOnCPU(detrex.detector("dino", 18, scale))
    return build_trainer(theirs, drawn_batch(scale, scale.batch)).run_step


def same_training(scale: Scale) -> dict[str, int]:
    """Compares our losses with those of detrex."""
    batch = drawn_batch(scale, scale.batch)
    ours = losses(build(detector_config("dino", 18, scale)), batch)
    theirs = losses(detrex.TrainedOnCPU(detrex.detector("dino", 18, scale)), batch)
    same_figures(ours, theirs, LOSS_TOLERANCE)
    return {"losses": len(ours)}


def transformers_inference(family: str, scale: Scale) -> Work:
    theirs = transformers.detector(family, scale)
    return transformers.inference(theirs, drawn_batch(scale, 1)[0]["image"])


def same_size(family: str, scale: Scale) -> dict[str, int]:
    """Compares the number of parameters, and the shape of the logits."""
    ours = build(detector_config(family, 50, scale))
    theirs = transformers.detector(family, scale)
    count, their_count = (
        sum(parameter.numel() for parameter in model.parameters()) for model in (ours, theirs)
    )
    if count != their_count:
        raise Disagreement(f"{count:,} parameters of ours, {their_count:,} of theirs")
    logits, _ = transformers.inference(theirs, drawn_batch(scale, 1)[0]["image"])()
    shape = tuple(logits.shape)
    if shape != (1, ours.num_queries, ours.num_classes):
        raise Disagreement(f"theirs predicts logits of shape {shape}")
    return {"parameters": count}


def _against_detrex(title: str, family: str, depth: int, factor: float) -> Pair:
    return Pair(
        against="detrex",
        name=f"{family}_r{depth}_inference",
        what=f"{title} R{depth} inference, 402 x 1333, batch 1",
        reference="detrex, same weights",
        bound=">=",
        factor=factor,
        ours=partial(inference, partial(detector_config, family, depth)),
        theirs=[partial(detrex_inference, family, depth)],
        check=partial(same_inference, family, depth),
    )


def _against_transformers(title: str, family: str, factor: float) -> Pair:
    return Pair(
        against="transformers",
        name=f"{family}_r50_inference",
        what=f"{title} R50 inference, 402 x 1333, batch 1",
        reference="Hugging Face transformers, same sizes",
        bound=">=",
        factor=factor,
        ours=partial(inference, partial(detector_config, family, 50)),
        theirs=[partial(transformers_inference, family)],
        check=partial(same_size, family),
    )


PAIRS = (
    _against_detrex("DINO", "dino", 50, factor=2.2),
    _against_detrex("DINO", "dino", 18, factor=2.2),
    _against_detrex("Deformable-DETR", "deformable_detr", 50, factor=2.2),
    _against_detrex("DAB-DETR", "dab_detr", 50, factor=1.15),
    Pair(
        against="detrex",
        name="dino_r18_training",
        what="training step DINO R18, batch 2, 402 x 1333",
        reference="detrex's model and criterion in the same loop",
        bound=">=",
        factor=2,
        ours=partial(training_step, partial(detector_config, "dino", 18)),
        theirs=[detrex_training],
        check=same_training,
    ),
    _against_transformers("Deformable-DETR", "deformable_detr", factor=2.2),
    _against_transformers("DAB-DETR", "dab_detr", factor=1.15),
)
