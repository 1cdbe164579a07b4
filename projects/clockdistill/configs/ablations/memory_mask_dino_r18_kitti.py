"""DINO R50 teacher -> R18 student on KITTI, 12 epochs.

The memory alone, with location and scale masks. Paper, Table 5: 61.6 AP.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from ..dino_r18_kitti import dataloader, lr_multiplier, model, optimizer, train

model.logit_loss = None
train.output_dir = "output/ablations/memory_mask_dino_r18_kitti"
