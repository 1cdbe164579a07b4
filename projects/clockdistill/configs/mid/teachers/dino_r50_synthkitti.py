"""The DINO teacher of the studies at the paper's width, on synthkitti.

python tools/train_net.py --config-file <this file>
"""

from ...common.mid import dataloader, lr_multiplier, optimizer, train
from ...models.dino import mid_dino
from ...models.parts import MINI_TEACHER, MINI_TEACHER_CHECKPOINT

model = mid_dino(**MINI_TEACHER)
optimizer.lr = 2e-4
train.init_checkpoint = MINI_TEACHER_CHECKPOINT  # its backbone; the rest has other sizes
train.max_iter = 3_200  # 8 epochs * 1600 images / 4 images a step
train.eval_period = 1_600
train.output_dir = "output/mid/teachers/dino_r50_synthkitti"
