"""KD-DETR at the small scale, the counterpart of methods/kd_detr_dino_r18_kitti.

Its public code takes the mean over classes and distils all layers from the teacher's last one.
This config takes the sum and distils layer by layer, as CLoCKDistill does: better on
synthkitti_tune (reproduction/README.md).

python tools/train_net.py --config-file <this file>
"""

from ..dino_r18_synthkitti import dataloader, lr_multiplier, model, optimizer, train

model.memory_loss = None
model.query_groups.target_aware = None
model.logit_loss.cls_weight = 1.0
model.logit_loss.l1_weight = 5.0
model.logit_loss.giou_weight = 2.0
train.output_dir = "output/mini/methods/kd_detr_dino_r18_synthkitti"
