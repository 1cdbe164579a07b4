"""Deformable-DETR R50 teacher (50 epochs) -> R18 student on KITTI, 50 epochs.

Paper, Table 2: 56.9 -> 59.8 AP, 24M parameters, 79 GFLOPs. The teacher comes from
configs/teachers/deformable_detr_r50_kitti.py, or from any checkpoint of it with the same classes.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from projects.clockdistill.modeling.adapters import DeformableDETRAdapter

from .common.deformable_kitti_50ep import dataloader, lr_multiplier, optimizer, train
from .models.deformable_detr import deformable_detr
from .models.distill import distill

model = distill(
    student=deformable_detr(depth=18, num_classes=7),
    teacher=deformable_detr(depth=50),
    adapter=DeformableDETRAdapter,
    teacher_checkpoint="output/teachers/deformable_detr_r50_kitti/model_final.pth",
)
train.init_checkpoint = "torchvision://resnet18"
train.output_dir = "output/deformable_detr_r18_kitti"
