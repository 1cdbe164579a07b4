"""The small DINO student on synthkitti without a teacher, for as many steps.

python tools/train_net.py --config-file <this file>
"""

from ...common.mini import dataloader, lr_multiplier, optimizer, train
from ...models.dino import mini_dino

model = mini_dino()
train.max_iter = 3_200  # 8 epochs * 1600 images / 4 images a step
train.eval_period = 800
train.output_dir = "output/mini/baselines/dino_r18_synthkitti"
