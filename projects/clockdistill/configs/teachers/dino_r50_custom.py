"""DINO R50 on your own COCO-format data, 36 epochs of 6,000 images: the teacher of dino_r18_custom.

python tools/train_net.py --config-file <this file> model.num_classes=4 \
  dataloader.train.dataset.json_file=train.json dataloader.train.dataset.image_root=images/train \
  dataloader.test.dataset.json_file=val.json dataloader.test.dataset.image_root=images/val
"""

from ..common.custom import dataloader
from ..common.optim import optimizer
from ..common.schedule import step_36ep as lr_multiplier
from ..common.train import train
from ..models.dino import dino

model = dino(depth=50)
train.init_checkpoint = "torchvision://resnet50"
train.max_iter = 13_500  # 36 epochs * 6000 images / 16 images a step
train.output_dir = "output/teachers/dino_r50_custom"
