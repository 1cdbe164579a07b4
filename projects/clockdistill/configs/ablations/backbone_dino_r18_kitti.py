"""DINO R50 teacher -> R18 student on KITTI, 12 epochs.

The neck's features alone, which is FitNet. Paper, Table 1: 57.4 AP.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from ..dino_r18_kitti import dataloader, lr_multiplier, model, optimizer, train
from ..models.methods import fitnet

model.memory_loss = None
model.logit_loss = None
model.feature_losses.fitnet = fitnet()
train.output_dir = "output/ablations/backbone_dino_r18_kitti"
