"""Learning-rate schedules: one drop to a tenth near the end, as the DETR family uses them.

A schedule is a function of the run's progress, so it follows `train.max_iter`; the epochs only
place the drop.
"""

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler, MultiStepParamScheduler

from projects.clockdistill.engine.solver import warmup_length

step_12ep = L(MultiStepParamScheduler)(values=[1.0, 0.1], num_updates=12, milestones=[11])
step_36ep = L(MultiStepParamScheduler)(values=[1.0, 0.1], num_updates=36, milestones=[30])
step_50ep = L(MultiStepParamScheduler)(values=[1.0, 0.1], num_updates=50, milestones=[40])
mini = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.0),
    warmup_factor=0.001,
    warmup_length=L(warmup_length)(steps=200, max_iter="${train.max_iter}"),
)
