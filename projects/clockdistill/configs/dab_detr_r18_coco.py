"""DAB-DETR R50 teacher -> R18 student on COCO, 50 epochs. Paper, Table 3: 33.5 -> 36.3 AP.

The teacher comes from configs/teachers/dab_detr_r50_coco.py, or from a public
detrex checkpoint of the same detector, by its path or its address.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from projects.clockdistill.modeling.adapters import DABDETRAdapter

from .common.coco_50ep import dataloader, lr_multiplier, optimizer, train
from .models.dab_detr import dab_detr
from .models.distill import distill

model = distill(
    student=dab_detr(depth=18),
    teacher=dab_detr(depth=50),
    adapter=DABDETRAdapter,
    teacher_checkpoint="output/teachers/dab_detr_r50_coco/model_final.pth",
)
train.init_checkpoint = "torchvision://resnet18"
train.output_dir = "output/dab_detr_r18_coco"
