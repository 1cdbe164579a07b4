"""The student of the studies at the paper's width without a teacher, for as many steps.

python tools/train_net.py --config-file <this file>
"""

from ...common.mid import dataloader, lr_multiplier, optimizer, train
from ...models.dino import mid_dino
from ...models.parts import MINI_BACKBONE

model = mid_dino()
dataloader.train.dataset.names = "synthkitti_few_train"
train.init_checkpoint = MINI_BACKBONE
train.max_iter = 1_600  # 32 epochs * 200 images / 4 images a step
train.eval_period = 0
train.output_dir = "output/mid/baselines/dino_r18_synthkitti"
