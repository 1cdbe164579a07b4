"""Real detrex's own Deformable-DETR, R50 teacher -> R18 student, on COCO, 50 epochs.

Our own counterpart is configs/deformable_detr_r18_coco.py. Needs detrex next to this project, as
configs/models/detrex.py says; the teacher is detrex's public checkpoint.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from projects.clockdistill.modeling.adapters import DetrexDeformableDETRAdapter

from ..common.deformable_coco_50ep import dataloader, lr_multiplier, optimizer, train
from ..models.detrex import HOW_TO_INSTALL, tied, with_resnet
from ..models.distill import distill

try:
    from projects.deformable_detr.configs.models import deformable_detr_r50
except ImportError as error:
    raise ImportError(HOW_TO_INSTALL) from error

model = distill(
    student=tied(with_resnet(deformable_detr_r50.model, depth=18)),
    teacher=tied(deformable_detr_r50.model),
    adapter=DetrexDeformableDETRAdapter,
    teacher_checkpoint="https://github.com/IDEA-Research/detrex-storage/releases/download/v0.4.0/"
    "deformable_detr_r50_50ep_backbone_1e-5_class_weight_2.0.pth",
)
train.init_checkpoint = "torchvision://resnet18"
train.output_dir = "output/detrex/deformable_detr_r18_coco"
