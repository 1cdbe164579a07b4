"""The small teacher on synthkitti: made the weights in projects/clockdistill/weights/.

python tools/train_net.py --config-file <this file>
"""

from ...common.optim import optimizer
from ...common.schedule import mini as lr_multiplier
from ...common.synthkitti import dataloader
from ...common.train import train
from ...models.distill import mini_teacher

model = mini_teacher()
optimizer.lr = 1.5e-3
optimizer.params.backbone_lr_factor = 1.0  # nothing is pre-trained
train.clip_grad.params.max_norm = 1.0
train.max_iter = 8_000  # 20 epochs * 1600 images / 4 images a step
train.eval_period = 4_000
train.device = "cpu"
train.output_dir = "output/mini/teachers/dino_r50_synthkitti"
