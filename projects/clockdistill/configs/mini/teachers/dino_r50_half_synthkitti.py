"""The small DINO teacher with half of the steps, to see what a worse teacher gives.

python tools/train_net.py --config-file <this file>
"""

from .dino_r50_synthkitti import dataloader, lr_multiplier, model, optimizer, train

train.max_iter = 4_000  # 10 epochs * 1600 images / 4 images a step
train.eval_period = 0
train.output_dir = "output/mini/teachers/dino_r50_half_synthkitti"
