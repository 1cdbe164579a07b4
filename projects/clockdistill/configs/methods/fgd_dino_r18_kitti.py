"""FGD: DINO R50 teacher -> R18 student on KITTI, 12 epochs. Paper, Table 4: 57.1 AP.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from ..dino_r18_kitti import dataloader, lr_multiplier, model, optimizer, train
from ..models.methods import fgd

model.memory_loss = None
model.logit_loss = None
model.feature_losses.fgd = fgd()
train.output_dir = "output/methods/fgd_dino_r18_kitti"
