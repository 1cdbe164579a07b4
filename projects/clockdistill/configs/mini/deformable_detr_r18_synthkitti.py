"""Small Deformable-DETR teacher -> smaller student on synthkitti, on a CPU.

The losses' weights are those of mini/dino_r18_synthkitti.
The teacher comes from configs/mini/teachers/deformable_detr_r50_synthkitti.py.

python tools/train_net.py --config-file <this file>
"""

from projects.clockdistill.modeling.adapters import DeformableDETRAdapter

from ..common.mini import dataloader, lr_multiplier, optimizer, train
from ..models.deformable_detr import mini_deformable_detr
from ..models.distill import distill
from ..models.parts import MINI_BACKBONE, MINI_TEACHER

model = distill(
    student=mini_deformable_detr(),
    teacher=mini_deformable_detr(**MINI_TEACHER),
    adapter=DeformableDETRAdapter,
    teacher_checkpoint="output/mini/teachers/deformable_detr_r50_synthkitti/model_final.pth",
    num_points=60,
)
model.token_weights.update(alpha=0.3, beta=0.2)
model.logit_loss.update(cls_weight=0.3, l1_weight=1.5, giou_weight=0.6)
model.logit_loss.update(normalised="all", temperature=10.0)
train.init_checkpoint = MINI_BACKBONE
train.max_iter = 6_400  # 16 epochs * 1600 images / 4 images a step
train.eval_period = 1_600
train.output_dir = "output/mini/deformable_detr_r18_synthkitti"
