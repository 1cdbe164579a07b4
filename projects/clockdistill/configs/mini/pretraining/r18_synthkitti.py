"""The small students' backbone, pre-trained: made the weights in projects/clockdistill/weights/.

What ImageNet weights are to the paper's students: it learns to name crops of synthkitti's training
frames, and every small student of that backbone starts from it, whatever then distils it.

python tools/train_net.py --config-file <this file>
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from projects.clockdistill.evaluation.crops import CropAccuracy
from projects.clockdistill.modeling.crop_classifier import CropClassifier

from ...common.mini import dataloader, lr_multiplier, optimizer, train
from ...models.dino import mini_dino
from ...models.parts import PIXELS

backbone = mini_dino().backbone
model = L(CropClassifier)(
    backbone=backbone,
    channels=backbone.stages.channels[-1],
    num_classes=7,
    crop_size=64,
    crops_per_object=2,
    background_crops=4,
    **PIXELS,
)
dataloader.train.mapper.augmentation.append(
    L(T.RandomBrightness)(intensity_min=0.8, intensity_max=1.2)
)
dataloader.train.total_batch_size = 8
dataloader.test.mapper.is_train = True  # crops are cut around the annotated boxes
dataloader.evaluator = L(CropAccuracy)()
optimizer.lr = 3e-3
optimizer.weight_decay = 1e-2
train.max_iter = 1_600  # 8 epochs * 1600 images / 8 images a step
train.eval_period = 0
train.best_metric = "crops/accuracy"
train.output_dir = "output/mini/pretraining/r18_synthkitti"
