"""Deformable-DETR R50 teacher -> R18 student on COCO, 50 epochs. Paper, Table 3: 37.8 -> 40.0 AP.

The teacher comes from configs/teachers/deformable_detr_r50_coco.py, or from a public
detrex checkpoint of the same detector, by its path or its address.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from projects.clockdistill.modeling.adapters import DeformableDETRAdapter

from .common.deformable_coco_50ep import dataloader, lr_multiplier, optimizer, train
from .models.deformable_detr import deformable_detr
from .models.distill import distill

model = distill(
    student=deformable_detr(depth=18),
    teacher=deformable_detr(depth=50),
    adapter=DeformableDETRAdapter,
    teacher_checkpoint="output/teachers/deformable_detr_r50_coco/model_final.pth",
)
train.init_checkpoint = "torchvision://resnet18"
train.output_dir = "output/deformable_detr_r18_coco"
