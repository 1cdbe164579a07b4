"""The small DAB-DETR student on synthkitti without a teacher, for as many steps.

python tools/train_net.py --config-file <this file>
"""

from ...common.mini import dataloader, lr_multiplier, optimizer, train
from ...models.dab_detr import mini_dab_detr

model = mini_dab_detr()
train.max_iter = 3_200  # 8 epochs * 1600 images / 4 images a step
train.eval_period = 800
train.output_dir = "output/mini/baselines/dab_detr_r18_synthkitti"
