"""A training step compared with detrex's model and criterion in the same loop."""

from benchmarks.agreement import same_figures
from benchmarks.measuring import seconds
from benchmarks.models import build, build_trainer, detector_config, drawn_batch, losses
from benchmarks.opponents import detrex
from benchmarks.pair import Pair, Sides, Target
from benchmarks.scale import Scale

# Measured 4e-5; a proposal of another rank would change single losses more.
LOSS_TOLERANCE = 5e-3


def _sides(scale: Scale) -> Sides:
    ours = build(detector_config("dino", 18, scale))
    theirs = detrex.OnOwnDevice(detrex.detector("dino", 18, scale, weights_of=ours))
    batch = drawn_batch(scale, scale.batch, ours.num_classes)

    def check() -> dict[str, float]:
        found = same_figures(losses(ours, batch), losses(theirs, batch), LOSS_TOLERANCE)
        return {"losses differ by": found}

    return Sides(
        {"step": seconds(build_trainer(ours, batch).run_step)},
        {"step": seconds(build_trainer(theirs, batch).run_step)},
        check,
    )


PAIRS = (
    Pair(
        "dino_r18_training",
        "training step DINO R18, batch 2, 402 x 1333",
        "detrex",
        "detrex's model and criterion in the same loop",
        Target(2, at_least=True),
        _sides,
    ),
)
