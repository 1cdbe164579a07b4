"""Small DINO teacher -> smaller student on synthkitti, in minutes on a CPU.

Shows that the method works, not the paper's figures. For the weights: reproduction/README.md.

python tools/train_net.py --config-file <this file>
"""

from projects.clockdistill.modeling.adapters import DINOAdapter

from ..common.mini import dataloader, lr_multiplier, optimizer, train
from ..models.dino import mini_dino
from ..models.distill import distill
from ..models.parts import MINI_BACKBONE, MINI_TEACHER, MINI_TEACHER_CHECKPOINT

model = distill(
    student=mini_dino(),
    teacher=mini_dino(**MINI_TEACHER),
    adapter=DINOAdapter,
    teacher_checkpoint=MINI_TEACHER_CHECKPOINT,
    num_points=60,
)
model.token_weights.update(alpha=0.3, beta=0.2)
model.logit_loss.update(cls_weight=0.3, l1_weight=1.5, giou_weight=0.6)
model.logit_loss.update(normalised="all", temperature=10.0)
train.init_checkpoint = MINI_BACKBONE
train.max_iter = 1_600  # 4 epochs * 1600 images / 4 images a step
train.eval_period = 800
train.output_dir = "output/mini/dino_r18_synthkitti"
