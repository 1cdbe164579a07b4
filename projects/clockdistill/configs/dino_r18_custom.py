"""DINO R50 teacher -> R18 student on your own COCO-format data, 12 epochs of 6,000 images.

python tools/train_net.py --config-file <this file> model.student.num_classes=4 \
  model.teacher_checkpoint=output/teachers/dino_r50_custom/model_final.pth \
  dataloader.train.dataset.json_file=mine/train.json dataloader.train.dataset.image_root=mine/train \
  dataloader.test.dataset.json_file=mine/val.json dataloader.test.dataset.image_root=mine/val
"""

from .common.custom import dataloader
from .common.optim import optimizer
from .common.schedule import epochs_12 as lr_multiplier
from .common.train import train
from .models.distill import dino_r50_to_r18 as model

model.teacher_checkpoint = "output/teachers/dino_r50_custom/model_final.pth"
train.init_checkpoint = "torchvision://resnet18"
train.max_iter = 4_500  # 12 epochs * 6000 images / 16 images a step
train.output_dir = "output/dino_r18_custom"
