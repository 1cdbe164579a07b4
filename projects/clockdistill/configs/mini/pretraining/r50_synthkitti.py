"""The small teachers' backbone, pre-trained as the students' is, for teachers with few labels.

python tools/train_net.py --config-file <this file>
"""

from ...models.crop_classifier import crop_classifier
from ...models.dino import mini_dino
from ...models.parts import MINI_TEACHER
from .r18_synthkitti import dataloader, lr_multiplier, optimizer, train

model = crop_classifier(mini_dino(**MINI_TEACHER).backbone)
train.output_dir = "output/mini/pretraining/r50_synthkitti"
