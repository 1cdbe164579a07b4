"""KD-DETR: DINO R50 teacher -> R18 student on KITTI, 12 epochs. Paper, Table 4: 60.9 AP.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from ..dino_r18_kitti import dataloader, lr_multiplier, model, optimizer, train

model.memory_loss = None
model.query_groups.target_aware = None
# as in its public code: mean over classes, every layer matched with the teacher's last
model.logit_loss.kl_reduction = "mean"
model.logit_loss.layers = "teacher_last"
train.output_dir = "output/methods/kd_detr_dino_r18_kitti"
