"""Deformable-DETR R50 teacher -> R18 student on your own COCO-format data, 50 epochs.

python tools/train_net.py --config-file <this file> model.student.num_classes=4 \
  model.teacher_checkpoint=output/teachers/deformable_detr_r50_custom/model_final.pth \
  dataloader.train.dataset.json_file=train.json dataloader.train.dataset.image_root=images/train \
  dataloader.test.dataset.json_file=val.json dataloader.test.dataset.image_root=images/val
"""

from projects.clockdistill.modeling.adapters import DeformableDETRAdapter

from .common.custom import dataloader
from .common.deformable_optim import optimizer
from .common.schedule import step_50ep as lr_multiplier
from .common.train import train
from .models.deformable_detr import deformable_detr
from .models.distill import distill

model = distill(
    student=deformable_detr(depth=18),
    teacher=deformable_detr(depth=50),
    adapter=DeformableDETRAdapter,
    teacher_checkpoint="output/teachers/deformable_detr_r50_custom/model_final.pth",
)
dataloader.train.total_batch_size = 32
train.init_checkpoint = "torchvision://resnet18"
train.max_iter = 9_375  # 50 epochs * 6000 images / 32 images a step
train.output_dir = "output/deformable_detr_r18_custom"
