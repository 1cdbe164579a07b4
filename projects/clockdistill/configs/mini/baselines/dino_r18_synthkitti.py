"""The small student on synthkitti without a teacher, as many steps as the distilled one.

python tools/train_net.py --config-file <this file>
"""

from ...common.optim import optimizer
from ...common.schedule import mini as lr_multiplier
from ...common.synthkitti import dataloader
from ...common.train import train
from ...models.dino import mini_dino

model = mini_dino()
optimizer.lr = 1.5e-3
optimizer.params.backbone_lr_factor = 1.0  # nothing is pre-trained
train.clip_grad.params.max_norm = 1.0
train.max_iter = 3_000  # 7.5 epochs * 1600 images / 4 images a step
train.eval_period = 1_000
train.device = "cpu"
train.output_dir = "output/mini/baselines/dino_r18_synthkitti"
