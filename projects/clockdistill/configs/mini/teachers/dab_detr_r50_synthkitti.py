"""The small DAB-DETR teacher on synthkitti, from a pre-trained backbone.

python tools/train_net.py --config-file <this file>
"""

from ...common.mini import dataloader, lr_multiplier, optimizer, train
from ...models.dab_detr import mini_dab_detr
from ...models.parts import MINI_TEACHER, MINI_TEACHER_BACKBONE

model = mini_dab_detr(**MINI_TEACHER)
optimizer.lr = 5e-4  # at 1.5e-3 it does not learn
train.init_checkpoint = MINI_TEACHER_BACKBONE
train.max_iter = 32_000  # 80 epochs * 1600 images / 4 images a step
train.eval_period = 8_000
train.output_dir = "output/mini/teachers/dab_detr_r50_synthkitti"
