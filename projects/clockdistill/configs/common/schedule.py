"""Learning-rate schedules: one drop to a tenth near the end, as the DETR family uses them.

Each is in parts of the run, so it follows ``train.max_iter``; epochs only give the drop its place.
"""

from detectron2.config import LazyCall as L

from projects.clockdistill.engine.schedule import cosine_schedule, step_schedule

kitti_12ep = coco_12ep = L(step_schedule)(
    epochs=12, drop_epochs=[11], max_iter="${train.max_iter}", warmup_steps=0
)
kitti_36ep = coco_36ep = L(step_schedule)(
    epochs=36, drop_epochs=[30], max_iter="${train.max_iter}", warmup_steps=0
)
kitti_50ep = coco_50ep = L(step_schedule)(
    epochs=50, drop_epochs=[40], max_iter="${train.max_iter}", warmup_steps=0
)
mini = L(cosine_schedule)(max_iter="${train.max_iter}", warmup_steps=200, end_factor=0.0)
