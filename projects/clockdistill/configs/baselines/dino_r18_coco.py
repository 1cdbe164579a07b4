"""DINO R18 on COCO without a teacher, 12 epochs.

Paper, Table 3: 43.5 AP.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from ..common.coco_12ep import dataloader, lr_multiplier, optimizer, train
from ..models.dino import dino

model = dino(depth=18)
train.init_checkpoint = "torchvision://resnet18"
train.output_dir = "output/baselines/dino_r18_coco"
