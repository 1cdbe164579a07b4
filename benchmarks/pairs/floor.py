"""A detector's inference beside its own matrix products and convolutions alone."""

from collections import Counter

from benchmarks.floor import record, replay
from benchmarks.models import built, inference, tree
from benchmarks.pair import Disagreement, Pair, Sides, Target
from benchmarks.scale import Scale
from benchmarks.scenes import drawn_batch
from benchmarks.timing import seconds


def _sides(scale: Scale) -> Sides:
    detector = built(tree("dino", 50, scale))
    image = drawn_batch(1, scale.height, scale.width, scale.objects, detector.num_classes)
    calls = record(detector, image)

    def check() -> dict[str, int]:
        counts = Counter(call.name for call in calls)
        if not counts["convolution"] + counts["mkldnn_convolution"]:
            raise Disagreement(f"no convolution was recorded, only {dict(counts)}")
        return {f"calls of {name}": count for name, count in counts.most_common()}

    return Sides(
        {"inference": seconds(inference(detector, image))}, {"floor": seconds(replay(calls))}, check
    )


PAIRS = (
    Pair(
        "dino_r50_floor",
        "DINO R50 inference, 402 x 1333, batch 1",
        "self",
        "its matrix products, convolutions and fused attention alone",
        Target(1.35, at_least=False),
        _sides,
    ),
)
