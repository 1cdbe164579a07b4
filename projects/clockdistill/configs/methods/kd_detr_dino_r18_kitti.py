"""KD-DETR: DINO R50 teacher -> R18 student on KITTI, 12 epochs. Paper, Table 4: 60.9 AP.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from ..dino_r18_kitti import dataloader, lr_multiplier, model, optimizer, train

model.memory_loss = None
model.query_groups.target_aware = None
model.logit_loss.kl_reduction = "mean"  # over classes, and
model.stages = "teacher_last"  # all stages from the teacher's last: as in its public code
train.output_dir = "output/methods/kd_detr_dino_r18_kitti"
