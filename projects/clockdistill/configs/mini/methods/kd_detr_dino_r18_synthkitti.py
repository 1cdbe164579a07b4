"""KD-DETR at the small scale: the twin of methods/kd_detr_dino_r18_kitti.

Not as its public code has it (the mean over classes, all stages from the teacher's last), but with
the sum over classes and stage by stage, as CLoCKDistill's own logit loss: better on
synthkitti_tune, see reproduction/README.md.

python tools/train_net.py --config-file <this file>
"""

from ..dino_r18_synthkitti import dataloader, lr_multiplier, model, optimizer, train

model.memory_loss = None
model.query_groups.target_aware = None
model.logit_loss.cls_weight = 1.0
model.logit_loss.l1_weight = 5.0
model.logit_loss.giou_weight = 2.0
train.output_dir = "output/mini/methods/kd_detr_dino_r18_synthkitti"
