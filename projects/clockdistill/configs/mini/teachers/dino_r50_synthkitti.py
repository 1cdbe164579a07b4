"""The small DINO teacher on synthkitti: made the weights in projects/clockdistill/weights/.

python tools/train_net.py --config-file <this file>
"""

from ...common.mini import dataloader, lr_multiplier, optimizer, train
from ...models.dino import mini_dino
from ...models.parts import MINI_TEACHER

model = mini_dino(**MINI_TEACHER)
train.max_iter = 8_000  # 20 epochs * 1600 images / 4 images a step
train.eval_period = 4_000
train.output_dir = "output/mini/teachers/dino_r50_synthkitti"
