"""DAB-DETR R50 on your own COCO-format data, 50 epochs of 6,000 images.

It is the teacher of dab_detr_r18_custom.

python tools/train_net.py --config-file <this file> model.num_classes=4 \
  dataloader.train.dataset.json_file=train.json dataloader.train.dataset.image_root=images/train \
  dataloader.test.dataset.json_file=val.json dataloader.test.dataset.image_root=images/val
"""

from ..common.custom import dataloader
from ..common.optim import optimizer
from ..common.schedule import step_50ep as lr_multiplier
from ..common.train import train
from ..models.dab_detr import dab_detr

model = dab_detr(depth=50)
train.init_checkpoint = "torchvision://resnet50"
train.max_iter = 18_750  # 50 epochs * 6000 images / 16 images a step
train.output_dir = "output/teachers/dab_detr_r50_custom"
