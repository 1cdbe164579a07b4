"""KD-DETR at the small scale, the counterpart of methods/kd_detr_dino_r18_kitti.

Not its public code's form, which that config has, but the sum over classes, layer by layer,
normalised as CLoCKDistill's: better on synthkitti_tune (reproduction/README.md).

python tools/train_net.py --config-file <this file>
"""

from ..dino_r18_synthkitti import dataloader, lr_multiplier, model, optimizer, train

model.memory_loss = None
model.query_groups.target_aware = None
model.logit_loss.cls_weight = 1.0
model.logit_loss.l1_weight = 5.0
model.logit_loss.giou_weight = 2.0
train.output_dir = "output/mini/methods/kd_detr_dino_r18_synthkitti"
