"""DINO R50 on COCO, 12 epochs: the teacher of dino_r18_coco.

Paper, Table 3: 49.0 AP.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ..common.coco_12ep import dataloader, lr_multiplier, optimizer, train
from ..models.dino import dino

model = dino(depth=50)
train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "output/teachers/dino_r50_coco"
