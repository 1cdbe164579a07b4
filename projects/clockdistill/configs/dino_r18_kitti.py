"""DINO R50 teacher (36 epochs) -> R18 student on KITTI, 12 epochs.

Paper, Table 2: 56.1 -> 62.5 AP, 31M parameters, 128 GFLOPs. The teacher comes from
configs/teachers/dino_r50_kitti.py, or from any checkpoint of it with the same classes.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from projects.clockdistill.modeling.adapters import DINOAdapter

from .common.kitti_12ep import dataloader, lr_multiplier, optimizer, train
from .models.dino import dino
from .models.distill import distill

model = distill(
    student=dino(depth=18, num_classes=7),
    teacher=dino(depth=50),
    adapter=DINOAdapter,
    teacher_checkpoint="output/teachers/dino_r50_kitti/model_final.pth",
)
train.init_checkpoint = "torchvision://resnet18"
train.output_dir = "output/dino_r18_kitti"
