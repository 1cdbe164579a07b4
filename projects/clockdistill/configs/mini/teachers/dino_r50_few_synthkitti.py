"""The small DINO teacher with the students' 200 labelled frames, from a pre-trained backbone.

python tools/train_net.py --config-file <this file>
"""

from ...models.parts import MINI_TEACHER_BACKBONE
from .dino_r50_synthkitti import dataloader, lr_multiplier, model, optimizer, train

dataloader.train.dataset.names = "synthkitti_few_train"
train.init_checkpoint = MINI_TEACHER_BACKBONE
train.max_iter = 9_600  # 192 epochs * 200 images / 4 images a step
train.eval_period = 4_800
train.output_dir = "output/mini/teachers/dino_r50_few_synthkitti"
