"""Learning-rate schedules in units of the whole run, so that they follow ``train.max_iter``."""

from collections.abc import Sequence

from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
)

# first value of a linear warm-up, as a part of the full rate
WARMUP_FACTOR = 0.001


def step_schedule(
    *, epochs: int, drop_epochs: Sequence[int], max_iter: int, warmup_steps: int = 0
) -> ParamScheduler:
    """Constant rate, times 0.1 after each drop.

    Args:
        epochs: length of the run in epochs, which only gives ``drop_epochs`` their scale.
        drop_epochs: rising, each in (0, epochs).
        max_iter: steps of the run.
        warmup_steps: steps of linear warm-up, at most half the run.

    Returns:
        Multiplier over the base rate as a function of progress in [0, 1).
    """
    milestones = list(drop_epochs)
    steps = MultiStepParamScheduler(
        values=[0.1**drop for drop in range(len(milestones) + 1)],
        num_updates=epochs,
        milestones=milestones,
    )
    return _warmed_up(steps, warmup_steps, max_iter)


def cosine_schedule(
    *, max_iter: int, warmup_steps: int = 0, end_factor: float = 0.0
) -> ParamScheduler:
    """Half a cosine from the full rate to ``end_factor`` times it, over ``max_iter`` steps."""
    return _warmed_up(CosineParamScheduler(1.0, end_factor), warmup_steps, max_iter)


def _warmed_up(schedule: ParamScheduler, warmup_steps: int, max_iter: int) -> ParamScheduler:
    if max_iter < 1:
        raise ValueError(f"train.max_iter must be at least 1, not {max_iter}")
    if warmup_steps == 0:
        return schedule
    # a run cut short for a trial warms up for half of it, or it would never learn at a full rate
    length = min(0.5, warmup_steps / max_iter)
    return WarmupParamScheduler(schedule, WARMUP_FACTOR, length)
