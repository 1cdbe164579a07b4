"""Deformable-DETR R18 on your own COCO-format data without a teacher, 50 epochs of 6,000 images.

python tools/train_net.py --config-file <this file> model.num_classes=4 \
  dataloader.train.dataset.json_file=train.json dataloader.train.dataset.image_root=images/train \
  dataloader.test.dataset.json_file=val.json dataloader.test.dataset.image_root=images/val
"""

from ..common.custom import dataloader
from ..common.deformable_optim import optimizer
from ..common.schedule import step_50ep as lr_multiplier
from ..common.train import train
from ..models.deformable_detr import deformable_detr

model = deformable_detr(depth=18)
dataloader.train.total_batch_size = 32
train.init_checkpoint = "torchvision://resnet18"
train.max_iter = 9_375  # 50 epochs * 6000 images / 32 images a step
train.output_dir = "output/baselines/deformable_detr_r18_custom"
