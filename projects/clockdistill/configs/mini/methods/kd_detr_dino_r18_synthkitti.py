"""KD-DETR at the small scale: the twin of methods/kd_detr_dino_r18_kitti.

python tools/train_net.py --config-file <this file>
"""

from ..dino_r18_synthkitti import dataloader, lr_multiplier, model, optimizer, train

model.memory_loss = None
model.query_groups.target_aware = None
model.logit_loss.kl_reduction = "mean"  # over classes, and
model.stages = "teacher_last"  # all stages from the teacher's last: as in its public code
train.output_dir = "output/mini/methods/kd_detr_dino_r18_synthkitti"
