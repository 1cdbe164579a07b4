"""DINO R50 teacher -> R18 student on your own COCO-format data, 12 epochs of 6,000 images.

python tools/train_net.py --config-file <this file> model.student.num_classes=4 \
  model.teacher_checkpoint=output/teachers/dino_r50_custom/model_final.pth \
  dataloader.train.dataset.json_file=train.json dataloader.train.dataset.image_root=images/train \
  dataloader.test.dataset.json_file=val.json dataloader.test.dataset.image_root=images/val
"""

from projects.clockdistill.modeling.adapters import DINOAdapter

from .common.custom import dataloader
from .common.optim import optimizer
from .common.schedule import step_12ep as lr_multiplier
from .common.train import train
from .models.dino import dino
from .models.distill import distill

model = distill(
    student=dino(depth=18),
    teacher=dino(depth=50),
    adapter=DINOAdapter,
    teacher_checkpoint="output/teachers/dino_r50_custom/model_final.pth",
)
train.init_checkpoint = "torchvision://resnet18"
train.max_iter = 4_500  # 12 epochs * 6000 images / 16 images a step
train.output_dir = "output/dino_r18_custom"
