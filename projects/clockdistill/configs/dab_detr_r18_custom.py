"""DAB-DETR R50 teacher -> R18 student on your own COCO-format data, 50 epochs.

python tools/train_net.py --config-file <this file> model.student.num_classes=4 \
  model.teacher_checkpoint=output/teachers/dab_detr_r50_custom/model_final.pth \
  dataloader.train.dataset.json_file=train.json dataloader.train.dataset.image_root=images/train \
  dataloader.test.dataset.json_file=val.json dataloader.test.dataset.image_root=images/val
"""

from projects.clockdistill.modeling.adapters import DABDETRAdapter

from .common.custom import dataloader
from .common.optim import optimizer
from .common.schedule import step_50ep as lr_multiplier
from .common.train import train
from .models.dab_detr import dab_detr
from .models.distill import distill

model = distill(
    student=dab_detr(depth=18),
    teacher=dab_detr(depth=50),
    adapter=DABDETRAdapter,
    teacher_checkpoint="output/teachers/dab_detr_r50_custom/model_final.pth",
)
train.init_checkpoint = "torchvision://resnet18"
train.max_iter = 18_750  # 50 epochs * 6000 images / 16 images a step
train.output_dir = "output/dab_detr_r18_custom"
