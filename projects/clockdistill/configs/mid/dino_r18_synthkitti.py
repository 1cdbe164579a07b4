"""DINO teacher -> student at the paper's width and coefficients, 200 labelled frames of synthkitti.

For studies of what the paper leaves open (docs/paper.md).

python tools/train_net.py --config-file <this file>
"""

from projects.clockdistill.modeling.adapters import DINOAdapter

from ..common.mid import dataloader, lr_multiplier, optimizer, train
from ..models.dino import mid_dino
from ..models.distill import distill
from ..models.parts import MID_TEACHER_CHECKPOINT, MINI_BACKBONE, MINI_TEACHER

model = distill(
    student=mid_dino(),
    teacher=mid_dino(**MINI_TEACHER),
    adapter=DINOAdapter,
    teacher_checkpoint=MID_TEACHER_CHECKPOINT,
    num_points=300,
)
# What the switches of the study start from.
model.logit_loss.update(normalised="all", temperature=10.0)
dataloader.train.dataset.names = "synthkitti_few_train"
train.init_checkpoint = MINI_BACKBONE
train.max_iter = 1_600  # 32 epochs * 200 images / 4 images a step
train.eval_period = 0
train.output_dir = "output/mid/dino_r18_synthkitti"
