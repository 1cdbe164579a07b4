"""The small students' backbone, pre-trained: made the weights in projects/clockdistill/weights/.

What ImageNet weights are to the paper's students: it learns to name crops of scenes that serve
nothing else, and every small student starts from it, whatever then distils it.

python tools/train_net.py --config-file <this file>
"""

from ...common.mini import lr_multiplier, optimizer, train
from ...common.synthkitti_crops import dataloader
from ...models.crop_classifier import crop_classifier
from ...models.dino import mini_dino

model = crop_classifier(mini_dino().backbone)
optimizer.lr = 3e-3
optimizer.weight_decay = 1e-2
train.max_iter = 1_600  # 8 epochs * 1600 images / 8 images a step
train.eval_period = 0
train.best_metric = "crops/accuracy"
train.output_dir = "output/mini/pretraining/r18_synthkitti"
