"""DINO R101 teacher (36 epochs) -> R50 student on KITTI, 12 epochs.

Paper, Table 2: 57.7 -> 63.7 AP, 47M parameters, 155 GFLOPs. The teacher comes from
configs/teachers/dino_r101_kitti.py, or from any checkpoint of it with the same classes.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from projects.clockdistill.modeling.adapters import DINOAdapter

from .common.kitti_12ep import dataloader, lr_multiplier, optimizer, train
from .models.dino import dino
from .models.distill import distill

model = distill(
    student=dino(depth=50, num_classes=7),
    teacher=dino(depth=101),
    adapter=DINOAdapter,
    teacher_checkpoint="output/teachers/dino_r101_kitti/model_final.pth",
)
train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "output/dino_r50_kitti"
