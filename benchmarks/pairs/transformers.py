"""Inference beside Hugging Face transformers' detectors of the same sizes.

Weights are random on both sides and not the same, so outputs are compared in shape only; both
detectors have as many parameters to the last one, or the pair is refused. Normalising the image
counts on both sides, choosing detections on ours alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.models import TITLES, built, count_parameters, inference, tree
from benchmarks.opponents import transformers
from benchmarks.pair import Disagreement, Pair, Sides, Target
from benchmarks.scale import Scale
from benchmarks.scenes import drawn_batch
from benchmarks.timing import seconds


def _sides(family: str, scale: Scale) -> Sides:
    ours, theirs = built(tree(family, 50, scale)), transformers.detector(family, scale)
    batch = drawn_batch(1, scale.height, scale.width, scale.objects, ours.num_classes)
    run_theirs = _inference(theirs, batch[0]["image"], ours.pixel_mean, ours.pixel_std)

    def check() -> dict[str, int]:
        found = {"ours": count_parameters(ours), "theirs": count_parameters(theirs)}
        if found["ours"] != found["theirs"]:
            raise Disagreement(f"{found['ours']:,} parameters of ours, {found['theirs']:,} theirs")
        shape = tuple(run_theirs().logits.shape)
        if shape != (1, ours.num_queries, ours.num_classes):
            raise Disagreement(f"theirs predicts logits of shape {shape}")
        return {f"parameters, {side}": count for side, count in found.items()}

    return Sides(
        {"inference": seconds(inference(ours, batch))}, {"inference": seconds(run_theirs)}, check
    )


def _inference(
    detector: nn.Module, image: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor
) -> Callable[[], Any]:
    mask = torch.ones(1, *image.shape[1:], dtype=torch.long)

    def run() -> Any:
        with torch.inference_mode():
            return detector(((image - mean) / deviation)[None], pixel_mask=mask)

    return run


def _pair(family: str, factor: float) -> Pair:
    return Pair(
        f"{family}_r50_inference",
        f"{TITLES[family]} R50 inference, 402 x 1333, batch 1",
        "transformers",
        "Hugging Face transformers, same sizes",
        Target(factor, at_least=True),
        partial(_sides, family),
    )


PAIRS = (_pair("deformable_detr", 2.2), _pair("dab_detr", 1.15))
