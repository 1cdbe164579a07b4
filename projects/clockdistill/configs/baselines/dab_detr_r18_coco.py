"""DAB-DETR R18 on COCO without a teacher, 50 epochs.

Paper, Table 3: 33.5 AP.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ..common.coco_50ep import dataloader, lr_multiplier, optimizer, train
from ..models.dab_detr import dab_detr

model = dab_detr(depth=18)
train.init_checkpoint = "torchvision://resnet18"
train.output_dir = "output/baselines/dab_detr_r18_coco"
