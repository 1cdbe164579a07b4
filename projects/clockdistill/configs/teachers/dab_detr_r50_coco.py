"""DAB-DETR R50 on COCO, 50 epochs: the teacher of dab_detr_r18_coco.

Paper, Table 3: 42.3 AP.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ..common.coco_50ep import dataloader, lr_multiplier, optimizer, train
from ..models.dab_detr import dab_detr

model = dab_detr(depth=50)
train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "output/teachers/dab_detr_r50_coco"
