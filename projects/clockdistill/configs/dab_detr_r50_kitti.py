"""DAB-DETR R101 teacher (50 epochs) -> R50 student on KITTI, 50 epochs.

Paper, Table 2: 47.5 -> 50.1 AP, 44M parameters, 56 GFLOPs. The teacher comes from
configs/teachers/dab_detr_r101_kitti.py, or from any checkpoint of it with the same classes.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from projects.clockdistill.modeling.adapters import DABDETRAdapter

from .common.kitti_50ep import dataloader, lr_multiplier, optimizer, train
from .models.dab_detr import dab_detr
from .models.distill import distill

model = distill(
    student=dab_detr(depth=50, num_classes=7),
    teacher=dab_detr(depth=101),
    adapter=DABDETRAdapter,
    teacher_checkpoint="output/teachers/dab_detr_r101_kitti/model_final.pth",
)
train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "output/dab_detr_r50_kitti"
