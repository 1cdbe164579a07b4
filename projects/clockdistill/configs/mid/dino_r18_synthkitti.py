"""DINO teacher -> student on synthkitti at the paper's width, with the paper's coefficients.

For studies of what the paper leaves open (docs/paper.md).

python tools/train_net.py --config-file <this file>
"""

from projects.clockdistill.modeling.adapters import DINOAdapter

from ..common.mid import dataloader, lr_multiplier, optimizer, train
from ..models.dino import mid_dino
from ..models.distill import distill
from ..models.parts import MINI_BACKBONE, MINI_TEACHER

model = distill(
    student=mid_dino(),
    teacher=mid_dino(**MINI_TEACHER),
    adapter=DINOAdapter,
    teacher_checkpoint="output/mid/teachers/dino_r50_synthkitti/model_final.pth",
    num_points=300,
)
train.init_checkpoint = MINI_BACKBONE
train.max_iter = 1_600  # 4 epochs * 1600 images / 4 images a step
train.eval_period = 800
train.output_dir = "output/mid/dino_r18_synthkitti"
