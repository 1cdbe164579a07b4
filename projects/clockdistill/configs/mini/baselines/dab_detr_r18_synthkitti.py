"""The small DAB-DETR student on synthkitti without a teacher, for as many steps.

python tools/train_net.py --config-file <this file>
"""

from ...common.mini import dataloader, lr_multiplier, optimizer, train
from ...models.dab_detr import mini_dab_detr
from ...models.parts import MINI_BACKBONE

model = mini_dab_detr()
optimizer.lr = 5e-4  # at 1.5e-3 it does not learn
train.init_checkpoint = MINI_BACKBONE
train.max_iter = 12_800  # 32 epochs * 1600 images / 4 images a step
train.eval_period = 3_200
train.output_dir = "output/mini/baselines/dab_detr_r18_synthkitti"
