"""Inference, image to detections, beside detrex's detectors with the same weights."""

from functools import partial

from benchmarks.agreement import same_detectors
from benchmarks.models import TITLES, built, count_parameters, inference, tree
from benchmarks.opponents import detrex
from benchmarks.pair import Pair, Sides, Target
from benchmarks.scale import Scale
from benchmarks.scenes import drawn_batch
from benchmarks.timing import seconds


def _sides(family: str, depth: int, scale: Scale) -> Sides:
    ours = built(tree(family, depth, scale))
    theirs = detrex.detector(family, depth, scale, weights_of=ours)
    image = drawn_batch(1, scale.height, scale.width, scale.objects, ours.num_classes)
    run_ours, run_theirs = inference(ours, image), inference(theirs, image)

    def check() -> dict[str, float]:
        return {"parameters": count_parameters(ours), **same_detectors(ours, theirs, image)}

    return Sides({"inference": seconds(run_ours)}, {"inference": seconds(run_theirs)}, check)


def _pair(family: str, depth: int, factor: float) -> Pair:
    return Pair(
        f"{family}_r{depth}_inference",
        f"{TITLES[family]} R{depth} inference, 402 x 1333, batch 1",
        "detrex",
        "detrex, same weights",
        Target(factor, at_least=True),
        partial(_sides, family, depth),
    )


PAIRS = (
    _pair("dino", 50, 2.2),
    _pair("dino", 18, 2.2),
    _pair("deformable_detr", 50, 2.2),
    _pair("dab_detr", 50, 1.15),
)
