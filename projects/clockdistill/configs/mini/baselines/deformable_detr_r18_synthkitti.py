"""The small Deformable-DETR student on synthkitti without a teacher, for as many steps.

python tools/train_net.py --config-file <this file>
"""

from ...common.mini import dataloader, lr_multiplier, optimizer, train
from ...models.deformable_detr import mini_deformable_detr
from ...models.parts import MINI_BACKBONE

model = mini_deformable_detr()
train.init_checkpoint = MINI_BACKBONE
train.max_iter = 6_400  # 16 epochs * 1600 images / 4 images a step
train.eval_period = 1_600
train.output_dir = "output/mini/baselines/deformable_detr_r18_synthkitti"
