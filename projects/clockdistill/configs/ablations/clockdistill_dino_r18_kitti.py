"""DINO R50 teacher -> R18 student on KITTI, 12 epochs.

Memory with masks and all queries, the whole method. Paper, Table 5: 62.5 AP.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from ..dino_r18_kitti import dataloader, lr_multiplier, model, optimizer, train

train.output_dir = "output/ablations/clockdistill_dino_r18_kitti"
