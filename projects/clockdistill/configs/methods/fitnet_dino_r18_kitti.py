"""FitNet: DINO R50 teacher -> R18 student on KITTI, 12 epochs. Paper, Table 4: 57.4 AP.

Table 1 has the same figures as "Backbone Features".

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from ..dino_r18_kitti import dataloader, lr_multiplier, model, optimizer, train
from ..models.methods import fitnet

model.memory_loss = None
model.logit_loss = None
model.feature_losses.fitnet = fitnet()
train.output_dir = "output/methods/fitnet_dino_r18_kitti"
