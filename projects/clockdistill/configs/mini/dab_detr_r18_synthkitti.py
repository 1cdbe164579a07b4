"""Small DAB-DETR teacher -> smaller student on synthkitti, on a CPU.

The losses' weights are those of mini/dino_r18_synthkitti.
The teacher comes from configs/mini/teachers/dab_detr_r50_synthkitti.py.

python tools/train_net.py --config-file <this file>
"""

from projects.clockdistill.modeling.adapters import DABDETRAdapter

from ..common.mini import dataloader, lr_multiplier, optimizer, train
from ..models.dab_detr import mini_dab_detr
from ..models.distill import distill
from ..models.parts import MINI_BACKBONE, MINI_TEACHER

model = distill(
    student=mini_dab_detr(),
    teacher=mini_dab_detr(**MINI_TEACHER),
    adapter=DABDETRAdapter,
    teacher_checkpoint="output/mini/teachers/dab_detr_r50_synthkitti/model_final.pth",
    num_points=60,
)
model.token_weights.update(alpha=0.3, beta=0.2)
model.logit_loss.update(cls_weight=0.3, l1_weight=1.5, giou_weight=0.6)
model.logit_loss.update(normalised="all", temperature=10.0)
optimizer.lr = 5e-4  # at 1.5e-3 it does not learn
train.init_checkpoint = MINI_BACKBONE
train.max_iter = 12_800  # 32 epochs * 1600 images / 4 images a step
train.eval_period = 3_200
train.output_dir = "output/mini/dab_detr_r18_synthkitti"
