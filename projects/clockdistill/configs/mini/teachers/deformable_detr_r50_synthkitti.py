"""The small Deformable-DETR teacher on synthkitti, from a pre-trained backbone.

python tools/train_net.py --config-file <this file>
"""

from ...common.mini import dataloader, lr_multiplier, optimizer, train
from ...models.deformable_detr import mini_deformable_detr
from ...models.parts import MINI_TEACHER, MINI_TEACHER_BACKBONE

model = mini_deformable_detr(**MINI_TEACHER)
train.init_checkpoint = MINI_TEACHER_BACKBONE
train.max_iter = 16_000  # 40 epochs * 1600 images / 4 images a step
train.eval_period = 4_000
train.output_dir = "output/mini/teachers/deformable_detr_r50_synthkitti"
