"""KD-DETR: DINO R50 teacher -> R18 student on KITTI, 12 epochs. Paper, Table 4: 60.9 AP.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from ..dino_r18_kitti import dataloader, lr_multiplier, model, optimizer, train

model.memory_loss = None
model.query_groups.target_aware = None
# As in its public code: T = 10 and T^2, every layer is matched with the teacher's last, means over
# classes and coordinates, and a class term that is the sum over the 8 images of a GPU.
model.logit_loss.temperature = 10.0
model.logit_loss.layers = "teacher_last"
model.logit_loss.kl_reduction = "mean"
model.logit_loss.l1_reduction = "mean"
model.logit_loss.normalised = "boxes"
model.logit_loss.cls_weight = 8.0
train.output_dir = "output/methods/kd_detr_dino_r18_kitti"
