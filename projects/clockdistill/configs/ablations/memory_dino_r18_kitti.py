"""DINO R50 teacher -> R18 student on KITTI, 12 epochs.

The memory alone, without masks. Paper, Tables 1 and 5: 59.9 AP.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from ..dino_r18_kitti import dataloader, lr_multiplier, model, optimizer, train

model.token_weights.masks = "none"
model.token_weights.alpha = 1 / 256  # one over the channels: eq. (1), the mean squared error
model.logit_loss = None
train.output_dir = "output/ablations/memory_dino_r18_kitti"
