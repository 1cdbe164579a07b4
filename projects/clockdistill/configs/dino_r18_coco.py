"""DINO R50 teacher -> R18 student on COCO, 12 epochs. Paper, Table 3: 43.5 -> 46.4 AP.

The teacher comes from configs/teachers/dino_r50_coco.py, or from a public
detrex checkpoint of the same detector, by its path or its address.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from projects.clockdistill.modeling.adapters import DINOAdapter

from .common.coco_12ep import dataloader, lr_multiplier, optimizer, train
from .models.dino import dino
from .models.distill import distill

model = distill(
    student=dino(depth=18),
    teacher=dino(depth=50),
    adapter=DINOAdapter,
    teacher_checkpoint="output/teachers/dino_r50_coco/model_final.pth",
)
train.init_checkpoint = "torchvision://resnet18"
train.output_dir = "output/dino_r18_coco"
