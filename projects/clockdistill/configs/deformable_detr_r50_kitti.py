"""Deformable-DETR R101 teacher (50 epochs) -> R50 student on KITTI, 50 epochs.

Paper, Table 2: 58.7 -> 60.9 AP, 40M parameters, 106 GFLOPs. The teacher comes from
configs/teachers/deformable_detr_r101_kitti.py, or from any checkpoint of it with the same classes.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from projects.clockdistill.modeling.adapters import DeformableDETRAdapter

from .common.deformable_kitti_50ep import dataloader, lr_multiplier, optimizer, train
from .models.deformable_detr import deformable_detr
from .models.distill import distill

model = distill(
    student=deformable_detr(depth=50, num_classes=7),
    teacher=deformable_detr(depth=101),
    adapter=DeformableDETRAdapter,
    teacher_checkpoint="output/teachers/deformable_detr_r101_kitti/model_final.pth",
)
train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "output/deformable_detr_r50_kitti"
